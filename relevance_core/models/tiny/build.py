"""The builtin base: a small Qwen3-architecture language model, built from scratch in minutes on one thread.

How it works. Plain language modelling teaches a model this small nothing about relevance, so it is pretrained on the task's own
text, in three steps. (1) A byte-level BPE of the corpus. (2) Token embeddings by contrast: a query and a target are bags of tokens,
and each query must find its own target among those of its batch (InfoNCE, arXiv 1807.03748), so that words of different languages
that lead to the same targets become neighbours. (3) The transformer, with those embeddings, reads documents (`tiny.documents`): a
query and four candidates, each as the very prompt that it is served with, answered ` yes` or ` no`. The loss is the answer's, plus
a little language modelling, plus that of a linear probe at the end of each level of the target, whose weight decays and which is
discarded. Queries and keys start out alike, so that attention finds similar words from the first step.

What it does not do. It reads no labels except, where there are no clicks, the positive ones of the training side. It is weakly
supervised for the task by construction: LoRA adds less on top of it than on top of a general base.

Known limits. A language that is not in the corpus is bytes without meaning to it: onboarding a language means building again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from relevance_core.config import BuiltinSettings
from relevance_core.errors import ModelError
from relevance_core.models.tiny.documents import sampler
from relevance_core.models.tiny.halves import ALONE, Halves
from relevance_core.models.tiny.pretrain import Losses, Reader, pretrain
from relevance_core.models.tiny.text import Corpus, Respelling, field_ids, train_tokenizer, words
from relevance_core.pairs import TASKS
from relevance_core.prompts import Prompt

HEAD_DIM: Final = 32
_FAST: Final = 5  # of the HEAD_DIM / 2 rotary frequencies
_CONTRAST: Final = 384


@dataclass(frozen=True)
class Size:
    """The size of the base and the length of its training."""

    vocabulary: int
    hidden: int
    layers: int
    contrastive_steps: int
    documents: int
    dropout: float


def size_of(corpus: Corpus, settings: BuiltinSettings) -> Size:
    """Returns the size that the settings ask for; values left to the corpus (0) follow from its distinct words.

    Up to 3,000 distinct words (a shop's vocabulary) make the small size, more of them the large one.
    """
    distinct = len({word for text in corpus.texts() for word in words(text)})
    large = distinct > 3000
    automatic = Size(6000, 192, 2, 1500, 80_000, 0.1) if large else Size(3072, 128, 2, 600, 20_000, 0.05)
    return Size(
        settings.vocabulary or automatic.vocabulary,
        settings.hidden or automatic.hidden,
        settings.layers,
        automatic.contrastive_steps if settings.contrastive_steps is None else settings.contrastive_steps,
        automatic.documents if settings.documents is None else settings.documents,
        automatic.dropout,
    )


def build(
    corpus: Corpus,
    settings: BuiltinSettings,
    prompt: Prompt,
    seed: int,
    folder: Path,
    share: float = 1.0,
    halves: Halves = ALONE,
) -> dict[str, Any]:
    """Builds the base in `folder` as transformers files (model.safetensors, config.json, tokenizer files).

    The same corpus, settings, prompt and seed give the same bytes.

    Args:
        corpus: the text.
        settings: of the builtin base.
        prompt: the template that the base will be served with.
        seed: of every random draw.
        folder: to write to.
        share: of the documents to read; less for a base that only judges a fold.
        halves: the part of step 3 that this process computes; the bytes do not depend on it, and one process writes them.

    Returns:
        Parameters, vocabulary, documents, and the accuracy on held-out documents.

    Raises:
        ModelError: the corpus has no positives.
    """
    if corpus.positives.is_empty():
        raise ModelError("the builtin base has no text to learn from", expected="clicks, or positive training rows")
    size = size_of(corpus, settings)
    size = replace(size, documents=round(size.documents * share))
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(corpus, prompt, size.vocabulary)
    model = new_model(tokenizer, size, prompt)
    respelling = Respelling(tokenizer, size.dropout, prompt, seed)
    if size.contrastive_steps:
        contrast(model, tokenizer, respelling, corpus, size, seed)
    samplers = [found for task in TASKS if (found := sampler(task, corpus)) is not None]
    reader = Reader(tokenizer, respelling, prompt, samplers, seed)
    accuracy = pretrain(model, reader, size.documents, halves)
    if halves.writes:
        save(model, tokenizer, folder)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "documents": size.documents,
        "contrastive_steps": size.contrastive_steps,
        "accuracy": accuracy,
    }


def new_model(tokenizer: Any, size: Size, prompt: Prompt) -> Any:
    """Makes an untrained Qwen3 with tied embeddings, its queries and keys alike."""
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
        _look_for_the_like(layer.self_attn)
    return model


def _look_for_the_like(attention: Any) -> None:
    """Copies keys to queries, so that a token attends to similar tokens, but elsewhere.

    At distance 0 all rotary frequencies agree, so that a token would attend to itself alone. The fastest frequencies, which only
    encode short distances, are negated: then similar tokens attend to each other at any distance but 0.
    """
    keys = attention.k_proj.weight.detach().view(-1, HEAD_DIM, attention.k_proj.in_features)
    queries = keys.repeat_interleave(attention.q_proj.out_features // attention.k_proj.out_features, dim=0).clone()
    half = HEAD_DIM // 2
    queries[:, :_FAST] *= -1
    queries[:, half : half + _FAST] *= -1
    attention.q_proj.weight.data.copy_(queries.flatten(0, 1))


def contrast(model: Any, tokenizer: Any, respelling: Respelling, corpus: Corpus, size: Size, seed: int) -> None:
    """Runs step 2: trains token embeddings on the positives, and copies them into the model at the spread of a fresh embedding."""
    pairs = _contrast_pairs(corpus)
    texts = sorted({text for pair in pairs for text in pair})
    number = {text: n for n, text in enumerate(texts)}
    left = np.array([number[a] for a, _ in pairs])
    right = np.array([number[b] for _, b in pairs])
    spellings = [_bags(field_ids(respelling if n else tokenizer, texts)) for n in range(4)]
    table = nn.EmbeddingBag(len(tokenizer), size.hidden, mode="mean")
    nn.init.normal_(table.weight, std=0.1)
    optimizer = torch.optim.Adam(table.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - 0.9 * step / size.contrastive_steps)
    random = np.random.default_rng(seed)
    losses = Losses("contrast", size.contrastive_steps)
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
        losses.add(step, loss.item())
    losses.close()
    learned = table.weight.detach()
    centred = learned - learned.mean(0)
    model.get_input_embeddings().weight.data.copy_(centred / centred.std() * model.config.initializer_range)


def _contrast_pairs(corpus: Corpus) -> list[tuple[str, str]]:
    """Lists (query, target) of every positive, (query, last level) of a category, and the same with the query's translation.

    The last level tells a category from its siblings; in the whole path it would be a few words of many.
    """
    pairs: list[tuple[str, str]] = []
    for task, query, target, english in corpus.positives.select("task", "query", "target", "english").iter_rows():
        goals = dict.fromkeys((target, target.rpartition(",")[2] if task == "QC" else target))
        pairs += [(said, goal) for said in (query, english) if said for goal in goals]
        pairs += [(query, english)] if english else []
    return pairs


@dataclass(frozen=True)
class _Bags:
    """Texts as one array of token ids with each text's start and length."""

    ids: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def of(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns the ids of the chosen texts in a row, and the offset of each text: the input of an EmbeddingBag."""
        lengths = self.lengths[chosen]
        offsets = np.cumsum(lengths) - lengths
        within = np.arange(lengths.sum()) - np.repeat(offsets, lengths)
        return torch.from_numpy(self.ids[np.repeat(self.starts[chosen], lengths) + within]), torch.from_numpy(offsets)


def _bags(texts: Sequence[Sequence[int]]) -> _Bags:
    lengths = np.array([len(ids) for ids in texts])
    return _Bags(np.concatenate([np.array(ids, dtype=np.int64) for ids in texts]), np.cumsum(lengths) - lengths, lengths)


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Writes the model and its tokenizer as transformers reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # transformers writes its own version among the settings; it is no part of the model.
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        values = json.loads(path.read_text())
        values.pop("transformers_version", None)
        path.write_text(json.dumps(values, indent=1, sort_keys=True))
