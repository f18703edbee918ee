"""The causal LM under every adapter: its setup, its loading, and the hidden state that gives the answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from transformers.utils.logging import disable_progress_bar

from relevance_core.config import EngineSettings
from relevance_core.errors import ModelError
from relevance_core.models.base_ref import Dtype, answer_ids
from relevance_core.models.shortcuts import Start, only_last, start_of

LEAST_SHARED: Final = 16


def prepare(engine: EngineSettings, seed: int) -> torch.device:
    """Sets torch up for reproducible bits, and returns the device of `engine`.

    Sets threads, every random generator's seed and deterministic algorithms. On a GPU an operation without a deterministic kernel
    only warns, so results there can differ in their last digits. Raises ModelError for a GPU that is not there.
    """
    # The GPUs of a training and no more: transformers' Trainer would split a batch over every GPU that it sees.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(engine.gpus))))
    cuda = torch.cuda.is_available()
    if engine.device == "cuda" and not cuda:
        raise ModelError("there is no GPU that torch can use", where="engine.device", expected="cpu or auto on this machine")
    device = torch.device("cuda" if cuda and engine.device != "cpu" else "cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(engine.threads)
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # Filling new memory only reveals reads of uninitialised values; it took 5 % of a scoring pass.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # torch's own setting
    set_seed(seed)
    disable_progress_bar()
    return device


def load_base(
    source: str | Path, dtype: Dtype = "auto", device: str | torch.device = "cpu", revision: str = "main"
) -> tuple[Any, Any]:
    """Loads a model, in evaluation mode on `device`, and its tokenizer.

    Args:
        source: a folder or a Hugging Face id.
        dtype: auto is bfloat16 on a GPU, else float32.
        device: where the model goes.
        revision: of a Hugging Face id.

    Raises:
        ModelError: the model can't be found or loaded, its answers are no single tokens, or its output head scales its logits.
    """
    device = torch.device(device)
    half = dtype == "bfloat16" or (dtype == "auto" and device.type == "cuda")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(source, revision=revision, dtype=torch.bfloat16 if half else torch.float32)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the base model can't be loaded: {str(error).splitlines()[0]}",
            where=f"base.model = {source}, revision {revision}",
            expected="a folder written by save_pretrained, or a Hugging Face id that is in the local cache",
            do=f"fetch it while online: hf download {source} --revision {revision}",
        ) from error
    answer_ids(tokenizer)
    _check_head(model)
    return model.to(device).eval(), tokenizer


def last_hidden(model: Any, ids: Tensor, lengths: Tensor, shared: int = 0, start: Start | None = None) -> Tensor:
    """Computes the hidden state after the last token of each row, as the output head reads it: batch × hidden size.

    Args:
        model: a causal LM, with LoRA layers in it or not.
        ids: batch × length, padded on the right with anything; causal attention needs no mask for it.
        lengths: tokens of each row.
        shared: leading tokens that all rows have in common; their keys and values are computed once, and autograd sums their
            gradient over the rows.
        start: keys and values of an earlier batch with the same start.
    """
    before: dict[str, Any] = {}
    if shared:
        positions = torch.arange(shared, ids.shape[1], device=ids.device)[None]
        before = {"start": start or start_of(model, ids[:1, :shared]), "position_ids": positions}
    places = lengths - shared - 1
    with only_last(model, places):
        states = model.base_model(input_ids=ids[:, shared:], use_cache=False, **before).last_hidden_state
    last: Tensor = states[torch.arange(len(ids), device=ids.device), places]
    return last


def shared_start(prompts: Sequence[list[int]]) -> int:
    """Returns the number of leading tokens that all prompts share, leaving each at least one; 0 for too few to gain time."""
    if not prompts:
        return 0
    first, last = min(prompts), max(prompts)
    most = min(len(ids) for ids in prompts) - 1
    shared = next((i for i in range(most) if first[i] != last[i]), most)
    return shared if shared >= LEAST_SHARED else 0


def pad(prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Returns the prompts padded on the right (batch × longest) and their lengths."""
    lengths = torch.tensor([len(ids) for ids in prompts])
    ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(prompt)
    return ids, lengths


def _check_head(model: Any) -> None:
    """Raises ModelError for a model that scales or caps its logits: they are more than its output head times the last state."""
    scales = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier")
    found = {name: getattr(model.config, name, None) for name in scales}
    changes = [f"{name} = {value}" for name, value in found.items() if value not in (None, 1)]
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        changes.append("a bias")
    if changes:
        raise ModelError(
            f"the base model's output head has {', '.join(changes)}",
            where=str(model.config.model_type),
            expected="logits = output head × last hidden state, as in Qwen3 and Llama",
        )
