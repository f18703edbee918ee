"""The reference to a base model, and its answer tokens, without torch: all that a client needs that only makes prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from relevance_core.errors import ModelError
from relevance_core.prompts import ANSWERS

Dtype = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class BaseRef:
    """A base model on this machine, and the bases that have not seen a fold's labels.

    id: its name in manifests and adapters. source: a folder, or a Hugging Face id (then `revision` counts). folds: at place j the
    folder of the base for the held-out fold j; empty for a base that was built without labels of this data.
    """

    id: str
    source: str
    revision: str = "main"
    dtype: Dtype = "auto"
    folds: tuple[str, ...] = ()

    def fold(self, number: int) -> BaseRef:
        """Returns the base to score the held-out fold `number` with."""
        return replace(self, source=self.folds[number], folds=()) if self.folds else self


def answer_ids(tokenizer: Any) -> tuple[int, int]:
    """Returns the token ids of yes and no. Raises ModelError unless each answer is a single token."""
    encoded = [tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in ANSWERS]
    (yes, *more), (no, *others) = (ids or [None] for ids in encoded)
    if more or others or yes == no or None in (yes, no) or tokenizer.unk_token_id in (yes, no):
        raise ModelError(
            f"the answers {ANSWERS[0]!r} and {ANSWERS[1]!r} are the tokens {encoded[0]} and {encoded[1]}",
            where=str(tokenizer.name_or_path),
            expected="one token each, not the same",
            do="take a base with a byte-level BPE, such as Qwen3",
        )
    return yes, no
