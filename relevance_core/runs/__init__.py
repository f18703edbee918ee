"""Runs: the stage decorator and its artifacts, people's approvals, and their decisions about labels."""
