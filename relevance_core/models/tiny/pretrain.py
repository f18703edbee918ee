"""Pretraining of the builtin base on documents: batches, loss, and the loop."""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from relevance_core.models.tiny.documents import CANDIDATES, MATCH, RIGHT, Categories, Items, Row, token_words
from relevance_core.models.tiny.halves import Halves
from relevance_core.models.tiny.text import Respelling
from relevance_core.processes import open_progress
from relevance_core.prompts import Prompt

Samplers = Sequence[Categories | Items]
_HALF: Final = 32  # rows of half a step, CANDIDATES of them a document
_CHUNK: Final = 320  # documents tokenised and sorted by length at a time
_HELD_OUT: Final = 200  # documents a task
_READ_SHARE: Final = 0.15
_READ_WEIGHT: Final = 0.15
_LEAST_SHARE: Final = 0.2
_RATE: Final = 2.5e-3
_LAST_LOSSES: Final = 100


@dataclass(frozen=True)
class Batch:
    """Rows as tensors.

    ids: (n, length), padded on the right. last: (n,), the last position of each prompt. answers: (n,), the answer's token. marks:
    (4, m), with the columns row, position, question and answer of the probe. reading: (2, k), row and position of the tokens whose
    successors the language model predicts. tasks: the task of each row.
    """

    ids: Tensor
    last: Tensor
    answers: Tensor
    marks: Tensor
    reading: Tensor
    tasks: tuple[str, ...]


def pretrain(model: Any, reader: Reader, documents: int, halves: Halves) -> dict[str, float]:
    """Trains the model on `documents` documents; returns the accuracy by task on documents drawn afterwards.

    AdamW (Loshchilov and Hutter, 2019, arXiv 1711.05101), warm-up and cosine. The gradient of a step is the sum of its two halves'
    gradients, on one process or two (`halves`). Matrix products are in bfloat16 where the processor supports it, weights and
    everything else in float32. Raises ModelError when the other process is gone.
    """
    steps = max(1, documents * CANDIDATES // (2 * _HALF))
    probe = nn.Linear(model.config.hidden_size, 2)
    parameters = [*model.parameters(), *probe.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, steps))
    losses = Losses("documents", steps)
    model.train()
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    with _half_precision(model):
        for step, batches in enumerate(reader.steps(steps)):
            optimizer.zero_grad(set_to_none=False)
            errors, loss = reader.nothing(), torch.zeros(1)
            for half in halves.mine:
                part, wrong = _loss(model, probe, batches, half, 1 - 0.9 * min(1.0, 2 * step / steps), reader)
                part.backward()  # type: ignore[no-untyped-call]
                errors += wrong
                loss += part.detach()
            halves.add_up(parameters, errors, loss)
            reader.note(errors)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.add(step, loss.item(), reader.errors)
    losses.close()
    model.eval()
    return _accuracy(model, reader)


def _cosine(step: int, steps: int) -> float:
    """Returns the learning rate's factor: linear warm-up over 3 % of the steps, then a cosine to 2 %."""
    warm = max(1, int(0.03 * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _loss(
    model: Any, probe: nn.Linear, batches: tuple[Batch, Batch], half: int, probe_weight: float, reader: Reader
) -> tuple[Tensor, Tensor]:
    """Computes a half's part of the step's loss, and `Reader.wrong` of it.

    The loss is the mean cross-entropy of the step's answers over the whole vocabulary, plus shares of the language model's and of
    the probe's.
    """
    batch = batches[half]
    hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
    rows = torch.arange(len(batch.ids))
    states = torch.cat([hidden[rows, batch.last], hidden[batch.reading[0], batch.reading[1]]])
    logits = _product(states, model.get_input_embeddings().weight)
    answers = logits[: len(rows)]
    answer = functional.cross_entropy(answers, batch.answers, reduction="sum") / sum(len(one.answers) for one in batches)
    successors = batch.ids[batch.reading[0], batch.reading[1] + 1]
    read = max(1, sum(one.reading.shape[1] for one in batches))
    reading = functional.cross_entropy(logits[len(rows) :], successors, reduction="sum") / read
    row, position, question, truth = batch.marks
    judged = probe(hidden[row, position])[torch.arange(len(row)), question]
    marked = functional.binary_cross_entropy_with_logits(judged, truth.float(), reduction="none")
    counts = {kind: sum(int((one.marks[2] == kind).sum()) for one in batches) for kind in (RIGHT, MATCH)}
    marks = sum(marked[question == kind].sum() / count for kind, count in counts.items() if count)
    return answer + _READ_WEIGHT * reading + probe_weight * marks, reader.wrong(batch, answers.detach())


class _HalfProduct(torch.autograd.Function):
    """Computes `x @ weight.T` and its gradients with factors rounded to bfloat16 and sums in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        flat, half = x.reshape(-1, x.shape[-1]).bfloat16(), weight.bfloat16()
        ctx.save_for_backward(flat, half)
        ctx.shape = x.shape
        return (flat @ half.T).float().view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        flat, half = ctx.saved_tensors
        above = gradient.reshape(-1, gradient.shape[-1]).bfloat16()
        return (above @ half).float().view(ctx.shape), (above.T @ flat).float()


def _product(x: Tensor, weight: Tensor) -> Tensor:
    if not _has_half():
        return functional.linear(x, weight)
    result: Tensor = _HalfProduct.apply(x, weight)  # type: ignore[no-untyped-call]
    return result


@functools.cache
def _has_half() -> bool:
    """Tells whether this processor multiplies bfloat16 natively: twice as fast there, far slower elsewhere."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextmanager
def _half_precision(model: nn.Module) -> Iterator[None]:
    """Makes linear layers multiply in bfloat16 inside the context."""
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for linear in linears:
        vars(linear)["forward"] = functools.partial(_product, weight=linear.weight)
    yield
    for linear in linears:
        del vars(linear)["forward"]


@torch.inference_mode()
def _accuracy(model: Any, reader: Reader) -> dict[str, float]:
    yes, no = reader.answers
    found = {}
    for task in sorted(reader.samplers):
        right: list[bool] = []
        for batch in reader.held_out(task):
            hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
            states = hidden[torch.arange(len(batch.ids)), batch.last]
            scores = functional.linear(states, model.get_input_embeddings().weight[[yes, no]])
            right += ((scores[:, 0] > scores[:, 1]) == (batch.answers == yes)).tolist()
        found[task] = round(sum(right) / len(right), 4)
    return found


class Reader:
    """Draws documents, turns them into prompts, and batches rows of similar length together.

    The task that errs more gets more of the documents.
    """

    def __init__(self, tokenizer: Any, respelling: Respelling, prompt: Prompt, samplers: Samplers, seed: int) -> None:
        self.prompt, self.samplers = prompt, {sampler.task: sampler for sampler in samplers}
        self.plain, self.respelling = tokenizer, respelling
        self.random, self.numbers = Random(seed), np.random.default_rng(seed)  # noqa: S311 - pseudo-random on purpose
        yes, no = (tokenizer(answer, add_special_tokens=False)["input_ids"][0] for answer in prompt.answers)
        self.answers: tuple[int, int] = (yes, no)
        tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        self.begins = np.array([token.startswith("Ġ") for token in tokens])
        self.comma, self.pad = tokenizer.convert_tokens_to_ids(","), tokenizer.pad_token_id
        self.errors = dict.fromkeys(sorted(self.samplers), 0.5)

    def steps(self, steps: int) -> Iterator[tuple[Batch, Batch]]:
        """Yields the two halves of each step, half of the steps respelled, because words must be known whole and by their parts."""
        made = 0
        while made < steps:
            rows = self._draw(made / steps)
            half = len(rows) // 2 // CANDIDATES * CANDIDATES
            chunk = self._pairs(rows[:half], self.respelling) + self._pairs(rows[half:], self.plain)
            self.random.shuffle(chunk)
            yield from chunk[: steps - made]
            made += len(chunk)

    def held_out(self, task: str) -> list[Batch]:
        """Draws new whole documents of a task, as batches."""
        sampler = self.samplers[task]
        return self._batches([row for _ in range(_HELD_OUT) for row in sampler.document(self.random, 1.0)], self.plain)

    def nothing(self) -> Tensor:
        """Returns zero rows and errors for every task: (tasks, 2)."""
        return torch.zeros(len(self.errors), 2)

    def wrong(self, batch: Batch, logits: Tensor) -> Tensor:
        """Counts the wrong answers and the rows of each task, in the tasks' order: (tasks, 2)."""
        wrong = logits.argmax(-1) != batch.answers
        of_tasks = [torch.tensor([task == other for other in batch.tasks]) for task in self.errors]
        return torch.tensor([[float((wrong & rows).sum()), float(rows.sum())] for rows in of_tasks])

    def note(self, errors: Tensor) -> None:
        """Updates each task's moving error rate by the counts of a step."""
        for task, (wrong, rows) in zip(self.errors, errors.tolist(), strict=True):
            if rows:
                self.errors[task] += 0.02 * (wrong / rows - self.errors[task])

    def _draw(self, progress: float) -> list[Row]:
        total = sum(self.errors.values())
        weights = [max(_LEAST_SHARE, error / total) for error in self.errors.values()]
        tasks = self.random.choices(list(self.errors), weights, k=_CHUNK)
        return [row for task in tasks for row in self.samplers[task].document(self.random, progress)]

    def _pairs(self, rows: Sequence[Row], tokenizer: Any) -> list[tuple[Batch, Batch]]:
        """Makes steps: two batches of similar length each."""
        batches = self._batches(rows, tokenizer)
        return list(zip(batches[::2], batches[1::2], strict=True))

    def _batches(self, rows: Sequence[Row], tokenizer: Any) -> list[Batch]:
        encoded = self.prompt.encode(tokenizer, [row[:4] for row in rows])
        order = sorted(range(len(rows)), key=lambda n: len(encoded[n]))
        parts = [order[at : at + _HALF] for at in range(0, len(order), _HALF)]
        return [self._batch([rows[n] for n in part], [encoded[n] for n in part]) for part in parts]

    def _batch(self, rows: Sequence[Row], encoded: Sequence[list[int]]) -> Batch:
        length = max(len(ids) for ids in encoded) + 1
        ids = np.full((len(rows), length), self.pad, dtype=np.int64)
        answers = np.array([self.answers[0] if row.label else self.answers[1] for row in rows])
        last = np.array([len(tokens) - 1 for tokens in encoded])
        marks: list[tuple[int, int, int, int]] = []
        for n, (row, tokens) in enumerate(zip(rows, encoded, strict=True)):
            ids[n, : len(tokens)] = tokens
            marks += self._marks(n, row, ids[n, : len(tokens)])
        ids[np.arange(len(rows)), last + 1] = answers
        readable = np.arange(length - 1)[None, :] < last[:, None]
        reading = np.argwhere(readable & (self.numbers.random(readable.shape) < _READ_SHARE))
        arrays = (ids, last, answers, np.array(marks).T, reading.T)
        id_rows, lasts, tokens_of_answers, marked, read = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
        return Batch(id_rows, lasts, tokens_of_answers, marked, read, tuple(row.task for row in rows))

    def _marks(self, n: int, row: Row, tokens: NDArray[np.int64]) -> list[tuple[int, int, int, int]]:
        """Returns (row, position, question, answer) of each mark: the last token of its word, a comma not counted.

        The words of the prompt's last field are the last ones before its end; a truncated field has lost some of them.
        """
        begins = np.flatnonzero(self.begins[tokens])
        field = row.target if row.task == "QC" else row.english or row.query
        first = len(begins) - 1 - len(token_words(field))
        found = []
        for word, question, answer in row.marks:
            end = int(begins[first + word + 1]) - 1 if first + word >= 0 else 0
            if end > 0:
                found.append((n, end - int(tokens[end] == self.comma), question, answer))
        return found


class Losses:
    """Tells how far a loop is, with the mean loss of its last steps."""

    def __init__(self, what: str, steps: int) -> None:
        self._progress = open_progress(what, steps)
        self._last: deque[float] = deque(maxlen=_LAST_LOSSES)

    def add(self, step: int, loss: float, errors: Mapping[str, float] | None = None) -> None:
        """To be called after each step, with the share of the rows that each task answers wrong."""
        self._last.append(loss)
        wrong = "".join(f", {task} {error:.0%} wrong" for task, error in (errors or {}).items())
        self._progress.at(step + 1, f"loss {np.mean(self._last):.3f}{wrong}")

    def close(self) -> None:
        """Ends the progress."""
        self._progress.close()
