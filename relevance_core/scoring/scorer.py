"""Scores: p(yes) of pairs under a base and an adapter (contract: trainer, scorer and server agree on it).

p(yes) = exp(l_yes) / (exp(l_yes) + exp(l_no)) at the first answer token (arXiv 2510.21671, eq. 2), which is the sigmoid of
l_yes − l_no: only the product of two rows of the output head with the last token's hidden state is computed, not the logits of the
whole vocabulary. A pass sorts its prompts by length, computes the keys and values of their common prefix once, and batches as many
prompts as `token_budget` allows.

On a CPU the batches depend only on the prompts and the model's shape, so repeating a pass gives the same bits whatever memory is
free. On a GPU they also depend on the free memory; another batch size moves a score within the rounding of the model's dtype.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
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
from relevance_core.models.lm import last_hidden, load_base, pad, prepare, shared_start
from relevance_core.models.shortcuts import Start, start_of
from relevance_core.processes import PartLogger, open_progress
from relevance_core.prompts import PairText, Prompt

log = PartLogger(logging.getLogger(__name__))

_SEED: Final = 0
_CPU_BYTES: Final = 16 * 2**20
"""Largest size of a block's activations on a CPU: more no longer fits its caches."""
_CPU_TOKENS: Final = (1024, 2048)
"""Bounds of a batch: fewer tokens do not keep a core busy, more only add padding (measured on models of width 128 to 512)."""
_GPU_SHARE: Final = 0.5
_GPU_TOKENS: Final = 32768
"""Enough rows of a matrix product to saturate any GPU."""


class Scorer:
    """A base, alone or with an adapter merged into it, that scores pairs.

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
        """Returns the token ids of each row's prompt."""
        return self._prompt.encode(self._tokenizer, rows)

    def score(self, rows: Iterable[PairText]) -> npt.NDArray[np.float64]:
        """p(yes) of each (task, query, target, english), in the rows' order."""
        return self.score_ids(self.encode(rows))

    @torch.inference_mode()
    def score_ids(self, prompts: Sequence[list[int]]) -> npt.NDArray[np.float64]:
        """p(yes) of each prompt, given as token ids, in their order.

        A GPU's memory that runs out halves the batches, and that is logged. Raises ModelError when one prompt alone is too much.
        """
        shared = shared_start(prompts)
        start = start_of(self._model, torch.tensor([prompts[0][:shared]], device=self._device)) if shared else None
        scores = np.empty(len(prompts))
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        lengths = [len(prompts[i]) - shared for i in order]
        budget, told = self.budget(max(lengths, default=0) + shared), False
        done = 0
        with open_progress("scored", len(prompts)) as progress:
            while done < len(order):
                places = order[done : batch_end(lengths, done, budget)]
                try:
                    scores[places] = self._batch([prompts[i] for i in places], shared, start)
                except torch.cuda.OutOfMemoryError as error:
                    budget = _half(len(places), budget, error)
                    if not told:
                        log.warning("the GPU's memory ran out at %d prompts: going on with smaller batches", len(places))
                    told = True
                    continue
                done += len(places)
                progress.at(done)
        return scores

    def budget(self, longest: int) -> int:
        """Returns the most tokens of a batch beyond the common prefix; longest: tokens of the longest prompt."""
        free = None
        if self._device.type == "cuda":
            free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return token_budget(self._model.config, self._model.dtype.itemsize, longest, free)

    def _batch(self, prompts: Sequence[list[int]], shared: int, start: Start | None) -> npt.NDArray[np.float64]:
        ids, lengths = (tensor.to(self._device) for tensor in pad(prompts))
        margin = last_hidden(self._model, ids, lengths, shared, start).float() @ self._direction
        return np.asarray(torch.sigmoid(margin.double()).cpu().numpy())


def token_budget(config: Any, itemsize: int, longest: int, free: int | None) -> int:
    """Returns the most tokens that a batch may have beyond the common prefix.

    Args:
        config: the model's.
        itemsize: bytes per element of the model's dtype.
        longest: tokens of the longest prompt.
        free: bytes of free GPU memory; None on a CPU, where the result depends on the model's shape alone.
    """
    # Activations per token alive at once in a block: hidden states and attention's parts, gate, up and their product.
    block: int = (4 * config.hidden_size + 3 * config.intermediate_size) * itemsize
    if free is None:
        least, most = _CPU_TOKENS
        return min(most, max(least, _CPU_BYTES // block))
    # Attention's scores and weights, and the float32 softmax between them.
    attention: int = config.num_attention_heads * longest * (2 * itemsize + 4)
    return min(_GPU_TOKENS, int(_GPU_SHARE * free) // (block + attention))


def batch_end(lengths: Sequence[int], first: int, budget: int) -> int:
    """Returns the end (exclusive) of the batch that begins at `first`: at least one prompt, at most `budget` tokens when padded.

    lengths: tokens of each prompt, ascending.
    """
    end = first + 1
    while end < len(lengths) and (end + 1 - first) * lengths[end] <= budget:
        end += 1
    return end


def _half(prompts: int, budget: int, error: Exception) -> int:
    """Returns half the budget after a batch ran out of memory. Raises ModelError when the batch was a single prompt."""
    if prompts > 1:
        return budget // 2
    raise ModelError(
        "the GPU's memory does not take a single prompt",
        where="scoring",
        expected="room for one prompt's numbers beside the model",
        do="score on a larger GPU or with base.dtype=bfloat16, or stop what else uses this one",
    ) from error


def with_adapter(model: Any, folder: Path) -> Any:
    """Returns `model` with the LoRA adapter in `folder`, in evaluation mode. Raises ModelError for an adapter that does not fit."""
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
