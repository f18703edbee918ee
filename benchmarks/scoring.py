"""Scoring: pairs per second of the project's scorer, and of what a user would pick instead.

All sides score pairs of the same shop with the instruction prompt, from their text to p(yes), on a Qwen3 of the same shape and, but
for the last benchmark, in float32. Neither loading nor a short first pass is in it. The peer of the first benchmark computes the
same scores, and it ends with an error where they differ by more than 1e-4; a cross-encoder has a head of its own, so its scores are
others.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from benchmarks import shop
from benchmarks.turns import Benchmark, Size
from relevance_core.prompts import PairText

BATCH: Final = 32
_WARM: Final = 64
_CHECKED: Final = 256
_ROWS: Final[Mapping[str, Mapping[Size, int]]] = {
    "ours": {"full": 6000, "smoke": 48},
    "half": {"full": 1000, "smoke": 48},
    "peers": {"full": 1000, "smoke": 48},
}

BENCHMARKS: Final = (
    Benchmark(
        "scoring, against all logits",
        "pairs/s",
        "benchmarks.scoring:ours",
        "benchmarks.scoring:plain",
        "transformers + peft, padded batches of 32, full logits",
        wanted=6,
    ),
    Benchmark(
        "scoring, against a cross-encoder",
        "pairs/s",
        "benchmarks.scoring:ours",
        "benchmarks.scoring:cross_encoder",
        "sentence-transformers CrossEncoder.predict, as many parameters",
        wanted=1,
    ),
    Benchmark("scoring in bfloat16", "pairs/s", "benchmarks.scoring:half", "benchmarks.scoring:ours", "the same scorer in float32"),
)


def ours(size: Size) -> float:
    """`Scorer.score` as the stages call it."""
    return _pairs_per_second(_scorer("float32"), _ROWS["ours"][size])


def half(size: Size) -> float:
    """The same with base.dtype=bfloat16; says how far its scores are from those in float32."""
    score = _scorer("bfloat16")
    figure = _pairs_per_second(score, _ROWS["half"][size])
    _say_apart(score, size)
    return figure


def plain(size: Size) -> float:
    """As a first script does it: the adapter as it is, batches in the given order, padded to their longest, all logits."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from relevance_core.models.base_ref import answer_ids

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(shop.base())
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(shop.base(), dtype=torch.float32), shop.adapter()).eval()
    prompt, answers = shop.prompt(), list(answer_ids(tokenizer))

    @torch.inference_mode()
    def score(rows: Sequence[PairText]) -> npt.NDArray[np.float64]:
        found = []
        for at in range(0, len(rows), BATCH):
            encoded = {"input_ids": prompt.encode(tokenizer, rows[at : at + BATCH])}
            batch = tokenizer.pad(encoded, padding_side="right", return_tensors="pt")
            logits = model(**batch).logits
            last = batch["attention_mask"].sum(1) - 1
            found.append(torch.softmax(logits[torch.arange(len(last)), last][:, answers], 1)[:, 0])
        return np.asarray(torch.cat(found).double().numpy())

    figure = _pairs_per_second(score, _ROWS["peers"][size])
    apart = _say_apart(score, size)
    if apart > 1e-4:
        raise SystemExit(f"the scores of both sides differ by {apart:.2g}: this is not the same work")
    return figure


def cross_encoder(size: Size) -> float:
    """`CrossEncoder.predict` as it comes, of the prompt's text with the target as the second of its pair."""
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        AutoModelForSequenceClassification.from_pretrained(shop.base(), num_labels=1).save_pretrained(folder)
        AutoTokenizer.from_pretrained(shop.base()).save_pretrained(folder)
        model = CrossEncoder(folder, device="cpu", model_kwargs={"dtype": torch.float32})
    prompt = shop.prompt()

    def score(rows: Sequence[PairText]) -> npt.NDArray[np.float64]:
        pairs = []
        for row in rows:
            asked, sign, shown = prompt.text(*row).partition("\nCategory:")
            pairs.append((asked, sign + shown))
        return np.asarray(model.predict(pairs, show_progress_bar=False))

    return _pairs_per_second(score, _ROWS["peers"][size])


Score = Callable[[Sequence[PairText]], npt.NDArray[Any]]


def _scorer(dtype: Literal["float32", "bfloat16"]) -> Score:
    from relevance_core.config import EngineSettings
    from relevance_core.scoring.scorer import Scorer

    scorer = Scorer(shop.base(), shop.adapter(), shop.prompt(), EngineSettings(device="cpu"), dtype=dtype)
    return lambda rows: scorer.score(rows)


def _pairs_per_second(score: Score, count: int) -> float:
    rows = shop.texts(count)
    score(rows[:_WARM])
    begun = time.perf_counter()
    score(rows)
    return count / (time.perf_counter() - begun)


def _say_apart(score: Score, size: Size) -> float:
    """How far scores are from ours in float32, at most."""
    rows = shop.texts(min(_CHECKED, _ROWS["peers"][size]))
    apart = float(np.abs(score(rows) - _scorer("float32")(rows)).max())
    print(f"scores differ by at most {apart:.1e} from ours in float32", file=sys.stderr)
    return apart
