"""p(yes) of pairs: one place that opens a version or a candidate and scores with it, whatever engine computes."""
