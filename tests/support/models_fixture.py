"""A random Qwen3 of hidden size 32 and its tokenizer, for tests of what is done with a model rather than of how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from relevance_core.pairs import query_group

SENTENCES = [
    "query: red running shoes category: Sports > Shoes ? yes",
    "query: blauer mantel = blue coat category: Clothing > Coats ? no",
    "query: zapatos azules item: Acme blue leather shoes size 42 ? yes",
    "query: phone case item: Steel water bottle 750 ml ? no",
    "Instruction: Answer yes or no. Input: Query: Response: English: Category: Item: the shop a shopper",
] * 4
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_tokenizer(sentences: Sequence[str] = SENTENCES) -> Any:
    """A byte-level BPE of about 600 ids with Qwen's special tokens and one added token, `<think>`, that is not special."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIALS, initial_alphabet=sorted(alphabet), show_progress=False)
    bpe.train_from_iterator(sentences, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    tokenizer.add_tokens(["<think>"])
    return tokenizer


def make_model(vocabulary: int, seed: int = 1) -> Any:
    """A random Qwen3 with two layers of 32."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
    )
    return Qwen3ForCausalLM(config)


def save_base(folder: Path, seed: int = 1) -> Path:
    """Writes such a base to `folder`, as `save_pretrained` does, and returns it."""
    tokenizer = make_tokenizer()
    make_model(len(tokenizer), seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def random_adapter(folder: Path, base: Path, name: str, seed: int) -> Path:
    """Writes a random LoRA adapter on all seven projections of such a base, none of it zero, and returns the folder."""
    from peft import LoraConfig, get_peft_model

    from relevance_core.models.lm import load_base
    from relevance_core.models.trainer import PROJECTIONS, save_adapter

    torch.manual_seed(seed)
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=8, target_modules=list(PROJECTIONS), init_lora_weights=False)
    save_adapter(get_peft_model(load_base(base)[0], lora), name, folder)
    return folder


def signal_rows(count: int, languages: tuple[str, ...] = ("en",)) -> pl.DataFrame:
    """Training rows of one rule, that shoes and coats are relevant and the rest is not, over 20 query groups and `languages`."""
    rows = [
        {
            "pair_id": f"{i:05}",
            "task": "QC",
            "language": languages[i % len(languages)],
            "query": ("red", "blue", "leather", "steel")[i % 4],
            "target": ("shoes", "bottle", "coat", "case")[i % 4 if i % 3 else (i // 4) % 4],
            "weight": 1.0,
            "group": query_group(str(i % 20)),
            "english": None,
        }
        for i in range(count)
    ]
    frame = pl.DataFrame(rows, schema_overrides={"weight": pl.Float32, "english": pl.String})
    return frame.with_columns(label=pl.col("target").is_in(["shoes", "coat"]).cast(pl.Int8))
