"""What the benchmarks of models work on: rows of the simulated shop, an untrained base and a random adapter.

Speed does not depend on how good a model is. The base is a Qwen3 of the builtin's architecture, 256 wide with 4 layers, with the
tokenizer that the builtin base would make of the shop's text; the adapter is of rank 32 on all seven projections, none of its
matrices zero. Both are a function of this file, made once and kept in the temporary folder of the machine.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import polars as pl

from relevance_core.models.tiny import text
from relevance_core.prompts import VERSIONS, PairText, Prompt
from relevance_core.tools.simulator import Market, catalogue, day

HIDDEN: Final = 256
LAYERS: Final = 4
RANK: Final = 32
VOCABULARY: Final = 3072
_TEXT_ROWS: Final = 4000
_MARKET: Final = Market(seed=17, clicks_per_day=1000)
_START: Final = date(2026, 10, 1)


def rows(count: int) -> pl.DataFrame:
    """The first `count` distinct pairs of the shop's category logs: task (QC), language, query, target, label, english (null)."""
    found = pl.DataFrame()
    for logs in _days():
        found = pl.concat([found, logs], how="diagonal").unique(["query", "target"], keep="first", maintain_order=True)
        if len(found) >= count:
            break
    return found.head(count)


def texts(count: int) -> list[PairText]:
    """The same pairs as a scorer takes them."""
    return list(rows(count).select("task", "query", "target", "english").iter_rows())


def prompt() -> Prompt:
    """The instruction prompt, without a translation."""
    return Prompt("instruction", VERSIONS["instruction"], translation=False, max_tokens=256)


def base() -> Path:
    """The folder of the base and its tokenizer."""
    return _made() / "base"


def adapter() -> Path:
    """The folder of the adapter."""
    return _made() / "adapter"


def _days() -> Iterator[pl.DataFrame]:
    at = _START
    while True:
        logs = day(_MARKET, at).logs.filter(task="QC").select("task", "language", "query", "target", "label")
        yield logs.with_columns(english=pl.lit(None, pl.String))
        at += timedelta(days=1)


@cache
def _made() -> Path:
    """The folder of both, made unless it is there; whoever makes it at the same time makes the same files."""
    sources = b"".join(Path(name).read_bytes() for name in (__file__, text.__file__))
    folder = Path(tempfile.gettempdir()) / f"relevance-shop-{hashlib.sha256(sources).hexdigest()[:16]}"
    if not folder.exists():
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
        _make(unfinished)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster
                raise
    return folder


def _make(folder: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    from relevance_core.models import trainer
    from relevance_core.models.tiny import build as tiny

    torch.manual_seed(17)
    positives = rows(_TEXT_ROWS)
    tokenizer = text.train_tokenizer(text.Corpus(positives, catalogue(_MARKET)), prompt(), VOCABULARY)
    model: Any = tiny.new_model(tokenizer, tiny.Size(VOCABULARY, HIDDEN, LAYERS, 0, 0, 0.0), prompt())
    tiny.save(model, tokenizer, folder / "base")
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, target_modules=list(trainer.PROJECTIONS), init_lora_weights=False
    )
    trainer.save_adapter(get_peft_model(model, lora), "random", folder / "adapter")
