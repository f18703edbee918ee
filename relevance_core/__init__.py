"""Continuous retraining of a multilingual relevance model: from labelled query logs to a gated, published LoRA adapter."""

import logging

__version__ = "0.1.0"

logging.getLogger(__name__).addHandler(logging.NullHandler())
