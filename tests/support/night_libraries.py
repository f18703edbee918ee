"""Imports what takes long in a night of the loop, so that processes forked from the one that has imported this start at once.

A fork takes no thread of its parent along, so nothing is imported here that starts one of its own, as polars does.
"""

import great_expectations
import peft
import sentence_transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen3ForCausalLM, Trainer

__all__ = [
    "AutoModelForCausalLM",
    "AutoTokenizer",
    "PreTrainedTokenizerFast",
    "Qwen3ForCausalLM",
    "Trainer",
    "great_expectations",
    "peft",
    "sentence_transformers",
]
