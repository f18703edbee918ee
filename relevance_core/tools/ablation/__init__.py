"""Measures each strategy's gain on a user's rows."""
