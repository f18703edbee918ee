"""Measures on a user's rows what each strategy adds."""
