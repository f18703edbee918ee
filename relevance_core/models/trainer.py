"""LoRA fine-tuning on labelled pairs: loss −log p(answer | prompt) at the last position (arXiv 2510.21671, eq. 1).

transformers' `Trainer` with peft. Batches of about the same length are laid out before the training begins, so an item of its data
set is a whole batch and resuming from a checkpoint only skips some. The rows of a batch are padded on the right, logits are
computed at the last position alone, and the template's constant start is computed once a batch, with its gradient; LoRA's dropout
there is one draw for all rows of the batch. Activations are recomputed in the backward pass (gradient checkpointing) only where a
GPU's memory can't hold a step's. With several GPUs each has a process with the whole model and its share of every batch
(DistributedDataParallel, through accelerate); no model is sharded.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from relevance_core.config import EngineSettings, TrainSettings
from relevance_core.errors import DataError, ModelError
from relevance_core.models.activations import Batch, activation_bytes, too_large
from relevance_core.models.base_ref import BaseRef, answer_ids
from relevance_core.models.lm import last_hidden, load_base, pad, prepare, shared_start
from relevance_core.models.ranks import Rank, run_ranks
from relevance_core.processes import PartLogger, Progress, open_progress
from relevance_core.prompts import Prompt

log = PartLogger(logging.getLogger(__name__))

PROJECTIONS: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers that are adapted: all seven of a block."""

_BUCKET: Final = 50
_LOGS: Final = 50
_COMPLETE: Final = "complete"
_RESULT: Final = "result.json"
_TRAINED_BYTES: Final = 16
"""Bytes of a trained parameter, in float32: itself, its gradient and AdamW's two moments."""


@dataclass(frozen=True)
class Job:
    """The inputs of a training beside its rows.

    work: folder of its checkpoints; a training that was killed resumes from the last one there. out: folder that gets the adapter.
    start: folder of the adapter whose weights it begins with; None for fresh weights.
    """

    base: BaseRef
    prompt: Prompt
    settings: TrainSettings
    engine: EngineSettings
    seed: int
    work: Path
    out: Path
    start: Path | None = None


@dataclass(frozen=True)
class Example:
    """A prompt, the id of its answer and its weight (1 on average)."""

    ids: list[int]
    answer: int
    weight: float


def train(rows: pl.DataFrame, job: Job) -> dict[str, Any]:
    """Trains an adapter and writes `adapter_config.json` and `adapter_model.safetensors` into `job.out`.

    The same rows, job and machine give the same bytes, killed in between or not; another `engine.gpus` rounds differently and draws
    dropout differently.

    Args:
        rows: task, query, target, label, weight and, where the prompt carries it, english.
        job: base, prompt, settings and folders.

    Returns:
        `steps`, `rows`, `parameters` (trained ones), `final_loss` (mean of the last logged steps) and `loss`: [{step, loss,
        learning_rate}].

    Raises:
        DataError: nothing can be learned from the rows.
        ModelError: the base lacks the seven projections, or `job.start` has another shape.
    """
    _check(rows)
    count = job.engine.gpus
    if count == 1:
        return _train(Rank(), rows, job)
    run_ranks(_train_rank, (rows, job), count, prepare(job.engine, job.seed))
    return dict(json.loads((job.work / _RESULT).read_text()))


def _train_rank(rank: Rank, rows: pl.DataFrame, job: Job) -> None:
    """One of several processes; the first logs, writes the adapter and leaves the result beside the checkpoints."""
    result = _train(rank, rows, job)
    if rank.first:
        (job.work / _RESULT).write_text(json.dumps(result))


def _train(rank: Rank, rows: pl.DataFrame, job: Job) -> dict[str, Any]:
    device = torch.device(prepare(job.engine, job.seed).type, rank.number)
    model, tokenizer = load_base(job.base.source, job.base.dtype, device, job.base.revision)
    examples = _examples(rows, job.prompt, tokenizer)
    plan = plan_batches([len(e.ids) for e in examples], job.settings.batch_size, job.settings.epochs, job.seed)
    _check_projections(model)
    adapted = get_peft_model(model, _lora(job))
    if job.start is not None:
        _load_adapter(adapted, job.start)
    trainer = _trainer(rank, adapted, examples, plan, job, device)
    last = last_checkpoint(job.work)
    log.info("training on %d rows in %d steps", len(examples), len(plan))
    if last is not None:
        log.info("training goes on from step %s of %d", last.name.split("-")[-1], len(plan))
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    if rank.first:
        save_adapter(adapted, job.base.id, job.out)
    losses = [{name: log[name] for name in ("step", "loss", "learning_rate")} for log in trainer.state.log_history if "loss" in log]
    return {
        "steps": len(plan),
        "rows": len(examples),
        "parameters": sum(p.numel() for p in adapted.parameters() if p.requires_grad),
        "final_loss": losses[-1]["loss"],
        "loss": losses,
    }


def plan_batches(lengths: Sequence[int], size: int, epochs: float, seed: int) -> list[list[int]]:
    """Plans the batches of a whole training: places of rows, `size` a batch (the last of an epoch may have fewer).

    In every epoch each row comes once, in an order shuffled by (seed, epoch); stretches of 50 batches are sorted by length to save
    padding, and then the batches are shuffled. A fraction of an epoch is that share of its batches.

    Args:
        lengths: tokens of each row.
        size: rows of a batch.
        epochs: passes over the rows.
        seed: of the order.
    """
    plan: list[list[int]] = []
    per_epoch = -(-len(lengths) // size)
    steps = max(1, round(per_epoch * epochs))
    while len(plan) < steps:
        random = np.random.default_rng([seed, len(plan) // per_epoch])
        order = random.permutation(len(lengths)).tolist()
        stretch = size * _BUCKET
        ordered = [i for at in range(0, len(order), stretch) for i in sorted(order[at : at + stretch], key=lambda i: lengths[i])]
        batches = [ordered[at : at + size] for at in range(0, len(ordered), size)]
        plan += [batches[i] for i in random.permutation(len(batches))]
    return plan[:steps]


def last_checkpoint(work: Path) -> Path | None:
    """Returns the newest checkpoint that was written to its end, or None."""
    complete = [path.parent for path in work.glob(f"checkpoint-*/{_COMPLETE}")]
    return max(complete, key=lambda path: int(path.name.split("-")[1]), default=None)


def save_adapter(model: Any, base_id: str, folder: Path) -> None:
    """Writes the adapter as peft reads it, without traces of this machine: the base by its id, sets as sorted lists."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    values = model.peft_config["default"].to_dict() | {"base_model_name_or_path": base_id, "inference_mode": True}
    values = {name: sorted(value) if isinstance(value, set | tuple) else value for name, value in values.items()}
    (folder / "adapter_config.json").write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def answer_loss(causal: Any, shared: int, ids: Tensor, lengths: Tensor, answers: Tensor, weights: Tensor) -> Tensor:
    """Computes the mean of weight × −log p(answer) over the rows of a batch: a scalar.

    Args:
        causal: the causal LM, LoRA in it.
        shared: as in `last_hidden`.
        ids: as in `last_hidden`.
        lengths: as in `last_hidden`.
        answers: the id of each row's answer.
        weights: of the rows.
    """
    logits = causal.get_output_embeddings()(last_hidden(causal, ids, lengths, shared)).float()
    return (cross_entropy(logits, answers, reduction="none") * weights).mean()


class _BatchTrainer(Trainer):  # type: ignore[misc]  # transformers ships no types that mypy is shown
    """A Trainer whose model returns the loss of a batch, and whose data set is made of batches."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """Calls the model as a whole, which returns the loss, so that accelerate's autocast and gradient averaging apply."""
        loss: Tensor = model(**inputs)
        return loss

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Returns the batches in their order, in every process: each process holds its own part of every batch already."""
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=self.data_collator)


def _trainer(
    rank: Rank, adapted: Any, examples: Sequence[Example], plan: list[list[int]], job: Job, device: torch.device
) -> Trainer:
    causal, shared = adapted.get_base_model(), shared_start([e.ids for e in examples])
    checkpointing = _checkpoints(adapted, examples, shared, job, device)
    adapted.forward = partial(answer_loss, causal, shared)
    trainer = _BatchTrainer(
        model=adapted,
        args=_arguments(rank, job, len(plan), device, half=causal.dtype == torch.bfloat16, checkpointing=checkpointing),
        train_dataset=[_part(rank, [examples[i] for i in places]) for places in plan],
        data_collator=_collate,
        callbacks=[_Tell(len(plan))],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _part(rank: Rank, batch: list[Example]) -> list[Example]:
    """Returns a process's rows of a batch, weighted so that the mean over the processes is the mean over the batch's rows.

    A process without rows gets one of weight 0.
    """
    if rank.count == 1:
        return batch
    mine = list(rank.part(batch)) or [replace(batch[0], weight=0.0)]
    factor = rank.count * len(mine) / len(batch)
    return [replace(example, weight=example.weight * factor) for example in mine]


class _Tell(TrainerCallback):  # type: ignore[misc]
    """Says how the training goes, and marks a checkpoint as complete once all of it is on disk."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._progress: Progress | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Starts the clock."""
        self._progress = open_progress("step", self._steps, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """The last step is done."""
        if self._progress:
            self._progress.close()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **more: Any) -> None:
        """Reports the loss since the last log."""
        if self._progress and logs and "loss" in logs:
            self._progress.at(state.global_step, f"loss {logs['loss']:.3f}")

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Writes the marker last: a checkpoint without it was cut off."""
        args.distributed_state.wait_for_everyone()
        if state.is_world_process_zero:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _COMPLETE).touch()


def _check(rows: pl.DataFrame) -> None:
    labels = rows.filter(pl.col("weight") > 0)["label"].unique().sort().to_list()
    if labels != [0, 1]:
        raise DataError(
            "there are no rows to train on" if not labels else f"every row to train on has the label {labels}",
            where=f"{len(rows)} training rows",
            expected="rows of weight above 0 with both labels, 0 and 1",
            do="widen the window (window.days, window.history_days), or look at what the stages before took out",
        )


def _check_projections(model: Any) -> None:
    present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    missing = [name for name in PROJECTIONS if name not in present]
    if missing:
        raise ModelError(
            f"the base model has no layers named {', '.join(missing)}",
            where=str(model.config.model_type),
            expected=f"linear layers named {', '.join(PROJECTIONS)}, as in Qwen3 and Llama",
            do="take a base of such an architecture",
        )


def _examples(rows: pl.DataFrame, prompt: Prompt, tokenizer: Any) -> list[Example]:
    """Turns the rows with a weight above 0 into prompts and answers."""
    rows = rows.filter(pl.col("weight") > 0)
    if "english" not in rows.columns:
        rows = rows.with_columns(english=pl.lit(None, pl.String))
    yes, no = answer_ids(tokenizer)
    prompts = prompt.encode(tokenizer, rows.select("task", "query", "target", "english").iter_rows())
    weights = (rows["weight"].cast(pl.Float64) / rows["weight"].cast(pl.Float64).mean()).to_list()
    answers = [yes if label else no for label in rows["label"].to_list()]
    return [Example(*values) for values in zip(prompts, answers, weights, strict=True)]


def _lora(job: Job) -> LoraConfig:
    settings = job.settings
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(PROJECTIONS),
    )


def _load_adapter(adapted: Any, folder: Path) -> None:
    """Loads the weights of the adapter in `folder` into a fresh one. Raises ModelError if names or shapes of tensors differ."""
    state = load_file(folder / "adapter_model.safetensors")
    wanted = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    shapes, fresh = ({name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (state, wanted))
    if shapes != fresh:
        differing = len(shapes.items() ^ fresh.items())
        raise ModelError(
            f"the adapter to begin with differs in {differing} tensors",
            where=str(folder),
            expected="an adapter of the same base and rank",
            do="begin from nothing, or with an adapter of this base and rank",
        )
    set_peft_model_state_dict(adapted, state)


def _checkpoints(adapted: Any, examples: Sequence[Example], shared: int, job: Job, device: torch.device) -> bool:
    """Tells whether the largest batch's activations exceed the GPU's memory beside the model; several GPUs decide as one would."""
    if device.type != "cuda":
        return False
    model = adapted.get_base_model()
    batch = Batch(min(job.settings.batch_size, len(examples)), max(len(e.ids) for e in examples), shared)
    weights = sum(p.numel() * (_TRAINED_BYTES if p.requires_grad else p.element_size()) for p in adapted.parameters())
    activations = activation_bytes(model.config, job.settings.r, batch, half=model.dtype == torch.bfloat16)
    return too_large(activations, weights, torch.cuda.get_device_properties(device).total_memory)


def _arguments(rank: Rank, job: Job, steps: int, device: torch.device, half: bool, checkpointing: bool) -> TrainingArguments:
    settings = job.settings
    gpu = device.type == "cuda"
    # The loss is logged at a divisor of save_steps, so that a training resumed from a checkpoint logs the same figures.
    every = max(n for n in range(1, settings.save_steps + 1) if settings.save_steps % n == 0 and n <= max(1, steps // _LOGS))
    return TrainingArguments(
        output_dir=str(job.work),
        per_device_train_batch_size=1,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=int(settings.warmup_ratio * steps),
        max_grad_norm=settings.max_grad_norm,
        seed=job.seed + rank.number,  # of dropout; the adapter is the first process's
        use_cpu=not gpu,
        ddp_backend="gloo" if rank.count > 1 and not gpu else None,
        ddp_find_unused_parameters=False if rank.count > 1 else None,
        bf16=gpu and half,
        gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
        logging_steps=every,
        save_steps=settings.save_steps,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
    )


def _collate(items: list[list[Example]]) -> dict[str, Tensor]:
    """Returns the only item: one batch."""
    (examples,) = items
    ids, lengths = pad([example.ids for example in examples])
    return {
        "ids": ids,
        "lengths": lengths,
        "answers": torch.tensor([example.answer for example in examples]),
        "weights": torch.tensor([example.weight for example in examples]),
    }
