"""The text side of the builtin base: its corpus and its tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from relevance_core.prompts import ANSWERS, Prompt

PAD, END = "<|pad|>", "<|end|>"
_WORD = re.compile(r"[^\W_]+(?:['’]s\b)?")
# Between kana, Han and everything else, because scripts change where a Japanese word ends.
_SCRIPTS: Final = r"[\p{Katakana}ー]+|\p{Hiragana}+|\p{Han}+"


@dataclass(frozen=True)
class Corpus:
    """What the builtin base is pretrained on: no labels, or positive ones only.

    positives: columns task, language, query, target, english (null for none) and optionally weight (clicks); one row per distinct
    pair that was clicked, or that a training label calls relevant.
    catalogue: columns task, target_id, target; the unlabelled targets that negatives are drawn from.
    """

    positives: pl.DataFrame
    catalogue: pl.DataFrame

    def texts(self) -> list[str]:
        """Every distinct text, sorted: queries, their translations, targets."""
        columns = (self.positives["query"], self.positives["target"], self.positives["english"], self.catalogue["target"])
        return sorted({text for column in columns for text in column.drop_nulls().unique().to_list()})


def words(text: str) -> list[str]:
    """The words of a text, lower-cased, a possessive s kept with its word."""
    return _WORD.findall(text.lower())


def train_tokenizer(corpus: Corpus, prompt: Prompt, size: int) -> Any:
    """A lower-casing byte-level BPE of at most `size` tokens (Sennrich et al., 2016, arXiv 1508.07909) as a transformers tokenizer.

    A comma is a token of its own with white space after it, so that a level of a category path and a word of a query share their
    tokens. The answers and the template's pieces are single tokens: whole pre-tokens, far more frequent than anything else.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s*,\s*"), ", ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_SCRIPTS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
        min_frequency=2,
    )
    tokenizer.train_from_iterator(_with_template(corpus, prompt), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, eos_token=END)


def _with_template(corpus: Corpus, prompt: Prompt) -> Iterable[str]:
    """The corpus' texts as fields, and the template often enough that all of its words become tokens."""
    texts = [f" {text}" for text in corpus.texts()]
    yield from texts
    template = [prompt.text(task, "", "", "") for task in ("QC", "QI")]
    yield from [*template, *ANSWERS] * max(100, len(texts) // 4)


def with_dropout(tokenizer: Any, share: float) -> Any:
    """A copy of the tokenizer that leaves out each merge with probability `share` (BPE dropout, arXiv 1910.13267)."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.model.dropout = share or None
    return PreTrainedTokenizerFast(tokenizer_object=copy, pad_token=PAD, eos_token=END)


def field_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text as it stands in a prompt's field."""
    return [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch([f" {text}" for text in texts])]
