"""Models: the base, its training and scoring, embeddings and translators.

The modules here import torch and its libraries at their top; stages import them when they run, never when they are imported.
"""
