"""p(yes) of pairs: the one room that opens a version or a candidate and scores with it, on either engine."""
