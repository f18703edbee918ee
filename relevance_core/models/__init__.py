"""Models: the base, its training and scoring, embeddings and translators.

The modules here import torch and its libraries at their top; stages import these modules when they run, not when they are loaded.
"""
