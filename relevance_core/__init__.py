"""Continuous retraining of a multilingual relevance model: from labelled query logs to a gated, published LoRA adapter."""

__version__ = "0.1.0"
