"""Scores: p(yes) of pairs under a base and an adapter (contract: trainer, scorer and server agree on it).

p(yes) = exp(l_yes) / (exp(l_yes) + exp(l_no)) at the first answer token (arXiv 2510.21671, eq. 2), which is the sigmoid of
l_yes − l_no: two rows of the output head times the last token's hidden state are all that is computed of the logits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open

from relevance_core.config import EngineSettings
from relevance_core.errors import ModelError
from relevance_core.models.base_ref import Dtype, answer_ids
from relevance_core.models.lm import Progress, Say, last_hidden, load_base, pad, prepare, shared_start
from relevance_core.prompts import PairText, Prompt

_BATCH_TOKENS: Final = 8192
_SEED: Final = 0


class Scorer:
    """A base, with an adapter merged into it or alone, that scores pairs.

    Raises ModelError when the base or the adapter can't be loaded or they don't fit each other.
    """

    def __init__(
        self,
        base: str | Path,
        adapter: Path | None,
        prompt: Prompt,
        engine: EngineSettings,
        *,
        revision: str = "main",
        dtype: Dtype = "auto",
    ) -> None:
        self._prompt = prompt
        self._device = prepare(engine, _SEED)
        model, self._tokenizer = load_base(base, dtype, self._device, revision)
        self._model = model if adapter is None else with_adapter(model, adapter).merge_and_unload()
        self.answers = yes, no = answer_ids(self._tokenizer)
        self.dtype = str(model.dtype).removeprefix("torch.")
        head = self._model.get_output_embeddings().weight.detach()
        self._direction = head[yes].float() - head[no].float()

    def encode(self, rows: Iterable[PairText]) -> list[list[int]]:
        """The token ids of each row's prompt."""
        return self._prompt.encode(self._tokenizer, rows)

    def score(self, rows: Iterable[PairText], say: Say) -> npt.NDArray[np.float64]:
        """p(yes) of each (task, query, target, english), in the rows' order."""
        return self.score_ids(self.encode(rows), say)

    def score_ids(self, prompts: Sequence[list[int]], say: Say) -> npt.NDArray[np.float64]:
        """p(yes) of each prompt, given as token ids, in their order."""
        shared = shared_start(prompts)
        scores = np.empty(len(prompts))
        progress, done = Progress(say, "scored", len(prompts)), 0
        for places in batches(prompts, shared):
            scores[places] = self._batch([prompts[i] for i in places], shared)
            done += len(places)
            progress.at(done)
        return scores

    @torch.inference_mode()
    def _batch(self, prompts: Sequence[list[int]], shared: int) -> npt.NDArray[np.float64]:
        ids, lengths = (tensor.to(self._device) for tensor in pad(prompts))
        margin = last_hidden(self._model, ids, lengths, shared).float() @ self._direction
        return np.asarray(torch.sigmoid(margin.double()).cpu().numpy())


def batches(prompts: Sequence[list[int]], shared: int = 0) -> Iterator[list[int]]:
    """Places of prompts of about the same length, shortest first, as many as a fixed number of tokens allows."""
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    batch: list[int] = []
    for place in order:
        if batch and (len(batch) + 1) * (len(prompts[place]) - shared) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def with_adapter(model: Any, folder: Path) -> Any:
    """`model` with the LoRA adapter in `folder`, in evaluation mode. Raises ModelError for one that does not fit it."""
    try:
        with safe_open(folder / "adapter_model.safetensors", "pt") as tensors:
            found = set(tensors.keys())
        adapted = PeftModel.from_pretrained(model, str(folder)).eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"the adapter can't be loaded: {str(error).splitlines()[0]}",
            where=str(folder),
            expected=f"a LoRA adapter of {model.config.name_or_path}",
            do="score it with the base that its manifest names",
        ) from error
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if found != wanted:
        raise ModelError(
            f"the adapter has {len(found - wanted)} tensors too many and {len(wanted - found)} too few",
            where=str(folder),
            expected=f"one pair for each adapted layer of {model.config.name_or_path}",
            do="score it with the base that its manifest names",
        )
    return adapted
