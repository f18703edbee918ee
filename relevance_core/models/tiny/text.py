"""The text side of the builtin base: its corpus and its tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from random import Random
from typing import Any, Final

import polars as pl

from relevance_core.prompts import ANSWERS, Prompt

PAD, END = "<|pad|>", "<|end|>"
_SPELLINGS: Final = 8
_WORD = re.compile(r"[^\W_]+(?:['’]s\b)?")
# Between kana, Han and everything else: in Japanese a change of script ends a word.
_SCRIPTS: Final = r"[\p{Katakana}ー]+|\p{Hiragana}+|\p{Han}+"


@dataclass(frozen=True)
class Corpus:
    """The text that the builtin base is pretrained on: no labels, or positive ones only.

    positives: columns task, language, query, target, english (null for none) and optionally weight (clicks); one row per distinct
    pair that was clicked, or that a training label calls relevant.
    catalogue: columns task, target_id, target; the unlabelled targets that negatives are drawn from.
    """

    positives: pl.DataFrame
    catalogue: pl.DataFrame

    def texts(self) -> list[str]:
        """Returns every distinct text, sorted: queries, their translations, targets."""
        columns = (self.positives["query"], self.positives["target"], self.positives["english"], self.catalogue["target"])
        return sorted({text for column in columns for text in column.drop_nulls().unique().to_list()})


def words(text: str) -> list[str]:
    """Splits a text into lower-cased words; a possessive s stays with its word."""
    return _WORD.findall(text.lower())


def train_tokenizer(corpus: Corpus, prompt: Prompt, size: int) -> Any:
    """Trains a lower-casing byte-level BPE of at most `size` tokens (Sennrich et al., 2016, arXiv 1508.07909), for transformers.

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
    """Yields the corpus' texts as fields, and the template often enough that all of its words become tokens."""
    texts = [f" {text}" for text in corpus.texts()]
    yield from texts
    template = [prompt.text(task, "", "", "") for task in ("QC", "QI")]
    yield from [*template, *ANSWERS] * max(100, len(texts) // 4)


class Respelling:
    """A tokenizer that spells a word another way each time, to teach the parts of words.

    BPE dropout (Provilkov et al., 2020, arXiv 1910.13267): each merge is left out with probability `share`. The template's words
    are never respelled. Unlike the dropout of the tokenizers library it follows a seed: the same calls give the same ids. It
    offers the part of a tokenizer that `Prompt.encode` uses.
    """

    bos_token_id = None

    def __init__(self, tokenizer: Any, share: float, prompt: Prompt, seed: int) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._vocabulary: dict[str, int] = self._backend.get_vocab()
        merges = json.loads(self._backend.to_str())["model"]["merges"]
        self._ranks = {(left, right): rank for rank, (left, right) in enumerate(merges)}
        self._share, self._seed = share, seed
        self._random = Random(seed)  # noqa: S311 - pseudo-random on purpose
        self._pieces = lru_cache(maxsize=None)(self._split)
        self._spellings = lru_cache(maxsize=None)(self._spell)
        template = " ".join(prompt.text(task, "", "", "") for task in ("QC", "QI"))
        self._fixed = frozenset(self._split(template)) | frozenset(self._split(f" {template}"))

    def __call__(self, texts: Sequence[str] | str, **_: Any) -> dict[str, Any]:
        """Returns `{"input_ids": …}`: a list of ids for each text."""
        return {"input_ids": [] if isinstance(texts, str) else [self._ids(text) for text in texts]}

    def get_added_vocab(self) -> dict[str, int]:
        """Returns no tokens: none is added."""
        return {}

    def _ids(self, text: str) -> list[int]:
        return [token for piece in self._pieces(text) for token in self._random.choice(self._spellings(piece))]

    def _split(self, text: str) -> tuple[str, ...]:
        normalised = self._backend.normalizer.normalize_str(text)
        return tuple(piece for piece, _ in self._backend.pre_tokenizer.pre_tokenize_str(normalised))

    def _spell(self, piece: str) -> list[list[int]]:
        """Returns several spellings of a piece; only the usual one for a piece of the template."""
        random = Random(f"{self._seed} {piece}")  # noqa: S311 - pseudo-random on purpose
        share = 0.0 if piece in self._fixed else self._share
        return [self._merge(list(piece), share, random) for _ in range(_SPELLINGS if share else 1)]

    def _merge(self, symbols: list[str], share: float, random: Random) -> list[int]:
        while True:
            pairs = pairwise(symbols)
            ranked = [(self._ranks[pair], at) for at, pair in enumerate(pairs) if pair in self._ranks]
            left = [found for found in ranked if not share or random.random() >= share]
            if not left:
                return [self._vocabulary[symbol] for symbol in symbols]
            _, at = min(left)
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]


def field_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Returns the ids of each text as it stands in a prompt's field. tokenizer: a transformers tokenizer or a `Respelling`."""
    encoded: list[list[int]] = tokenizer([f" {text}" for text in texts], add_special_tokens=False)["input_ids"]
    return encoded
