"""The builtin base: a small Qwen3-architecture language model, built from scratch in minutes on one thread.

How it works. Plain language modelling teaches a model this small nothing about relevance, so it is pretrained on the task's own
text, in three steps. (1) A byte-level BPE of the corpus. (2) Token embeddings by contrast: a query and a target are bags of tokens,
and each query must find its own target among those of its batch (InfoNCE, arXiv 1807.03748), so that words of different languages
that lead to the same targets become neighbours. (3) The transformer, with those embeddings, reads documents (`tiny_documents`): a
query and four candidates, each as the very prompt that it is served with, answered ` yes` or ` no`. The loss is the answer's, plus
a little language modelling, plus a linear probe at the end of each level of the target that fades and is thrown away. Queries and
keys start out alike, so that attention finds similar words from the first step.

What it does not do. It reads no label but, where there are no clicks, the positive ones of the training side. It is weakly
supervised for the task by construction: what LoRA adds on top of it is less than what LoRA adds to a general base.

Known limits. A language that is not in the corpus is bytes without meaning to it: onboarding a language means building again.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from relevance_core.config import BaseSettings
from relevance_core.errors import ModelError
from relevance_core.models.tiny_documents import CANDIDATES, Row, sampler
from relevance_core.models.tiny_text import Corpus, field_ids, train_tokenizer, with_dropout, words
from relevance_core.prompts import Prompt

Say = Callable[[str], None]
HEAD_DIM: Final = 32
_BATCH: Final = 64  # rows, CANDIDATES of them a document
_CHUNK: Final = 640  # documents tokenised and sorted by length at a time
_CONTRAST: Final = 384
_HELD_OUT: Final = 150
_SECONDS_BETWEEN_WORDS: Final = 5.0


@dataclass(frozen=True)
class Size:
    """How big the base is and how long it is trained."""

    vocabulary: int
    hidden: int
    layers: int
    contrastive_steps: int
    documents: int
    dropout: float


def size_of(corpus: Corpus, settings: BaseSettings) -> Size:
    """The size that the settings ask for; what they leave to the corpus (0) follows from its distinct words.

    Up to 3,000 distinct words (a shop's vocabulary) make the small size, more of them the large one.
    """
    distinct = len({word for text in corpus.texts() for word in words(text)})
    large = distinct > 3000
    automatic = Size(6000, 192, 2, 1500, 60_000, 0.1) if large else Size(3072, 128, 2, 600, 30_000, 0.05)
    return Size(
        settings.vocabulary or automatic.vocabulary,
        settings.hidden or automatic.hidden,
        settings.layers,
        automatic.contrastive_steps if settings.contrastive_steps is None else settings.contrastive_steps,
        automatic.documents if settings.documents is None else settings.documents,
        automatic.dropout,
    )


def build(
    corpus: Corpus, settings: BaseSettings, prompt: Prompt, seed: int, folder: Path, say: Say, share: float = 1.0
) -> dict[str, Any]:
    """Builds the base in `folder` as transformers files (model.safetensors, config.json, tokenizer files).

    share: the part of the documents that is read; less for a base that only judges a fold.
    Returns its figures: parameters, vocabulary, documents, accuracy on held-out documents. The same corpus, settings, prompt and
    seed give the same bytes. Raises ModelError for a corpus without positives.
    """
    if corpus.positives.is_empty():
        raise ModelError("the builtin base has no text to learn from", expected="clicks, or positive training rows")
    size = size_of(corpus, settings)
    size = replace(size, documents=round(size.documents * share))
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(corpus, prompt, size.vocabulary)
    model = new_model(tokenizer, size, prompt)
    if size.contrastive_steps:
        contrast(model, tokenizer, corpus, size, seed, say)
    accuracy = pretrain(model, tokenizer, corpus, prompt, size, seed, say)
    save(model, tokenizer, folder)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "documents": size.documents,
        "contrastive_steps": size.contrastive_steps,
        "accuracy": accuracy,
    }


def new_model(tokenizer: Any, size: Size, prompt: Prompt) -> Any:
    """An untrained Qwen3 with tied embeddings, its queries and keys alike."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    heads = size.hidden // HEAD_DIM
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=3 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2 if heads % 2 == 0 else heads,
        head_dim=HEAD_DIM,
        max_position_embeddings=max(512, 2 * prompt.max_tokens),
        rope_theta=1e4,
        initializer_range=0.09,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config).float()
    for layer in model.model.layers:
        attention = layer.self_attn
        shared = attention.k_proj.weight.detach().view(-1, HEAD_DIM, size.hidden)
        repeated = shared.repeat_interleave(heads // shared.shape[0], dim=0)
        attention.q_proj.weight.data.copy_(repeated.reshape(-1, size.hidden))
    return model


def contrast(model: Any, tokenizer: Any, corpus: Corpus, size: Size, seed: int, say: Say) -> None:
    """Step 2: token embeddings from the positives, copied into the model, scaled to the spread of a fresh embedding."""
    pairs = _contrast_pairs(corpus)
    texts = sorted({text for pair in pairs for text in pair})
    number = {text: n for n, text in enumerate(texts)}
    left = np.array([number[a] for a, _ in pairs])
    right = np.array([number[b] for _, b in pairs])
    noisy = with_dropout(tokenizer, size.dropout)
    spellings = [_bags(field_ids(tokenizer if n == 0 else noisy, texts)) for n in range(4)]
    table = nn.EmbeddingBag(len(tokenizer), size.hidden, mode="mean")
    nn.init.normal_(table.weight, std=0.1)
    optimizer = torch.optim.Adam(table.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - 0.9 * step / size.contrastive_steps)
    random = np.random.default_rng(seed)
    progress = Progress("contrast", size.contrastive_steps, say)
    for step in range(size.contrastive_steps):
        chosen = random.integers(len(pairs), size=min(_CONTRAST, len(pairs)))
        a, b = left[chosen], right[chosen]
        query, target = (functional.normalize(table(*spellings[random.integers(4)].of(side))) for side in (a, b))
        same = torch.from_numpy((b[:, None] == b[None, :]) & ~np.eye(len(b), dtype=bool))
        scores = (query @ target.T / 0.07).masked_fill(same, -1e4)
        goal = torch.arange(len(b))
        loss = functional.cross_entropy(scores, goal) + functional.cross_entropy(scores.T, goal)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        progress.step(step, loss.item())
    learned = table.weight.detach()
    centred = learned - learned.mean(0)
    model.get_input_embeddings().weight.data.copy_(centred / centred.std() * model.config.initializer_range)


def _contrast_pairs(corpus: Corpus) -> list[tuple[str, str]]:
    """(query, target) of every positive, (query, translation) and (translation, target) of the translated ones."""
    pairs = list(corpus.positives.select("query", "target").iter_rows())
    translated = corpus.positives.filter(corpus.positives["english"].is_not_null())
    pairs += translated.select("query", "english").unique(maintain_order=True).iter_rows()
    return pairs + list(translated.select("english", "target").unique(maintain_order=True).iter_rows())


@dataclass(frozen=True)
class _Bags:
    """Texts as one array of token ids with each text's start and length."""

    ids: np.ndarray[Any, np.dtype[np.int64]]
    starts: np.ndarray[Any, np.dtype[np.int64]]
    lengths: np.ndarray[Any, np.dtype[np.int64]]

    def of(self, chosen: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[Tensor, Tensor]:
        """The ids of the chosen texts in a row, and where each begins: what an EmbeddingBag takes."""
        lengths = self.lengths[chosen]
        offsets = np.cumsum(lengths) - lengths
        within = np.arange(lengths.sum()) - np.repeat(offsets, lengths)
        return torch.from_numpy(self.ids[np.repeat(self.starts[chosen], lengths) + within]), torch.from_numpy(offsets)


def _bags(texts: Sequence[Sequence[int]]) -> _Bags:
    lengths = np.array([len(ids) for ids in texts])
    return _Bags(np.concatenate([np.array(ids, dtype=np.int64) for ids in texts]), np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True)
class Batch:
    """Rows as tensors: ids (n, length) padded on the right, the last position of each (n), the answer token of each (n), the levels
    that the probe judges as (row, position, label) columns (3, m), and the next-token positions of the language model (2, k).
    """

    ids: Tensor
    last: Tensor
    answers: Tensor
    levels: Tensor
    reading: Tensor


def pretrain(model: Any, tokenizer: Any, corpus: Corpus, prompt: Prompt, size: Size, seed: int, say: Say) -> float:
    """Step 3. Returns the accuracy on documents of queries drawn after training, a random half of them of each answer."""
    samplers = [s for s in (sampler(task, corpus) for task in ("QC", "QI")) if s is not None]
    documents = Reader(tokenizer, prompt, samplers, size, seed)
    steps = size.documents * CANDIDATES // _BATCH
    probe = nn.Linear(size.hidden, 1)
    decay = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2] + list(probe.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}], lr=2.5e-3, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _cosine(step, steps))
    progress = Progress("documents", steps, say)
    model.train()
    for step, batch in enumerate(documents.batches(steps)):
        loss = _loss(model, probe, batch, 1 - 0.9 * min(1.0, 2 * step / steps))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress.step(step, loss.item())
    model.eval()
    return _accuracy(model, documents)


def _cosine(step: int, steps: int) -> float:
    """Linear warm-up over 3 % of the steps, then a cosine to 2 %."""
    warm = max(1, int(0.03 * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _loss(model: Any, probe: nn.Linear, batch: Batch, probe_weight: float) -> Tensor:
    hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
    rows = torch.arange(len(batch.ids))
    states = torch.cat([hidden[rows, batch.last], hidden[batch.reading[0], batch.reading[1]]])
    logits = functional.linear(states, model.get_input_embeddings().weight)
    answer = functional.cross_entropy(logits[: len(rows)], batch.answers)
    reading = functional.cross_entropy(logits[len(rows) :], batch.ids[batch.reading[0], batch.reading[1] + 1])
    judged = probe(hidden[batch.levels[0], batch.levels[1]]).squeeze(-1)
    levels = functional.binary_cross_entropy_with_logits(judged, batch.levels[2].float())
    return answer + 0.15 * reading + probe_weight * levels


@torch.inference_mode()
def _accuracy(model: Any, documents: Reader) -> float:
    yes, no = documents.answers
    right = total = 0
    for batch in documents.held_out(_HELD_OUT):
        hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
        states = hidden[torch.arange(len(batch.ids)), batch.last]
        scores = functional.linear(states, model.get_input_embeddings().weight[[yes, no]])
        right += int(((scores[:, 0] > scores[:, 1]) == (batch.answers == yes)).sum())
        total += len(batch.ids)
    return round(right / total, 4)


class Reader:
    """Draws documents, makes prompts of them and batches of those, rows of like length together."""

    def __init__(self, tokenizer: Any, prompt: Prompt, samplers: Sequence[Any], size: Size, seed: int) -> None:
        self.prompt, self.samplers, self.size = prompt, samplers, size
        self.plain, self.noisy = tokenizer, with_dropout(tokenizer, size.dropout)
        self.random, self.numbers = Random(seed), np.random.default_rng(seed)  # noqa: S311 - pseudo-random on purpose
        self.answers = tuple(tokenizer.convert_tokens_to_ids(tokenizer.tokenize(answer))[0] for answer in prompt.answers)
        self.comma = tokenizer.convert_tokens_to_ids(",")
        self.pad = tokenizer.pad_token_id

    def batches(self, steps: int) -> Iterator[Batch]:
        """The training batches; the first fifth is of short documents, and some stay short until the end."""
        made = 0
        while made < steps:
            share = max(0.1, 1 - 5 * made / steps) if made < steps / 5 else 0.1
            rows = self._draw(_CHUNK, share)
            half = len(rows) // 2  # half with each spelling, for words must be known whole and by their parts
            chunk = self._batches(rows[:half], self.noisy) + self._batches(rows[half:], self.plain)
            self.random.shuffle(chunk)
            yield from chunk[: steps - made]
            made += len(chunk)

    def held_out(self, documents: int) -> list[Batch]:
        """Batches of whole documents that were not trained on."""
        return self._batches(self._draw(documents, 0.0), self.plain)

    def _draw(self, documents: int, short: float) -> list[Row]:
        drawn = (self.random.choice(self.samplers).document(self.random, self.random.random() < short) for _ in range(documents))
        return [row for document in drawn for row in document]

    def _batches(self, rows: Sequence[Row], tokenizer: Any) -> list[Batch]:
        encoded = self.prompt.encode(tokenizer, [row[:4] for row in rows])
        order = sorted(range(len(rows)), key=lambda n: len(encoded[n]))
        parts = [order[at : at + _BATCH] for at in range(0, len(order), _BATCH)]
        return [self._batch([rows[n] for n in part], [encoded[n] for n in part]) for part in parts]

    def _batch(self, rows: Sequence[Row], encoded: Sequence[list[int]]) -> Batch:
        length = max(len(ids) for ids in encoded) + 1
        ids = np.full((len(rows), length), self.pad, dtype=np.int64)
        answers = np.array([self.answers[0] if row.label else self.answers[1] for row in rows])
        last = np.array([len(tokens) - 1 for tokens in encoded])
        levels: list[tuple[int, int, int]] = []
        for n, (row, tokens) in enumerate(zip(rows, encoded, strict=True)):
            ids[n, : len(tokens)] = tokens
            levels += self._levels(n, row, ids[n, : len(tokens)])
        ids[np.arange(len(rows)), last + 1] = answers
        readable = np.arange(length - 1)[None, :] < last[:, None]
        reading = np.argwhere(readable & (self.numbers.random(readable.shape) < 0.25))
        arrays = (ids, last, answers, np.array(levels).T, reading.T)
        return Batch(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))

    def _levels(self, n: int, row: Row, tokens: np.ndarray[Any, np.dtype[np.int64]]) -> list[tuple[int, int, int]]:
        """Where each level of the target ends, right before the template's end, and whether it is right up to there."""
        ends = [*np.flatnonzero(tokens == self.comma).tolist(), len(tokens) - 2]
        used = min(len(row.levels), len(ends))
        return [(n, end, label) for end, label in zip(ends[-used:], row.levels[-used:], strict=True)]


class Progress:
    """Says every few seconds how far a loop is, its mean loss and the time left."""

    def __init__(self, what: str, steps: int, say: Say) -> None:
        self.what, self.steps, self.say = what, steps, say
        self.began = self.said = time.monotonic()
        self.losses: list[float] = []

    def step(self, step: int, loss: float) -> None:
        """To be called after each step."""
        self.losses.append(loss)
        now = time.monotonic()
        if now - self.said < _SECONDS_BETWEEN_WORDS and step + 1 < self.steps:
            return
        left = (now - self.began) / (step + 1) * (self.steps - step - 1)
        self.say(f"{self.what} {step + 1}/{self.steps}, loss {np.mean(self.losses):.3f}, about {left:.0f} s left")
        self.said, self.losses = now, []


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes the model and its tokenizer as transformers reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # transformers writes its own version beside the settings: no part of the model.
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        values = json.loads(path.read_text())
        values.pop("transformers_version", None)
        path.write_text(json.dumps(values, indent=1, sort_keys=True))
