"""The stages of the loop, a module or a folder each, in the order of the DAG."""
