"""Long evidence: what takes too long for every test run, kept beside the code that it was taken from (benchmarks/results/)."""
