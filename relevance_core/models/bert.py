"""A BERT encoder with mean pooling (all-MiniLM-L6-v2 and its kind), run with torch alone.

The library that such a folder is made for takes longer to be imported than a night's few new texts take to be embedded. Texts of as
many tokens share a batch, so that nothing is padded and nothing masked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

_TOKENS: Final = 1024
"""Tokens of a batch: enough for a core's matrix products to be at their fastest, and few enough for its cache."""

_KNOWN: Final = {"architectures": ["BertModel"], "hidden_act": "gelu", "position_embedding_type": "absolute"}
_MODULES: Final = ["Transformer", "Pooling", "Normalize"]


class _Layer(NamedTuple):
    """The weights of one layer; query, key and value are one product."""

    attend: Tensor
    attend_bias: Tensor
    mix: Tensor
    mix_bias: Tensor
    mixed: tuple[Tensor, Tensor]
    widen: Tensor
    widen_bias: Tensor
    narrow: Tensor
    narrow_bias: Tensor
    out: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Bert:
    """The encoder of a sentence-transformers folder."""

    tokenizer: Tokenizer
    words: Tensor
    positions: Tensor
    entry: tuple[Tensor, Tensor]
    layers: tuple[_Layer, ...]
    heads: int
    epsilon: float

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """(n, d) unit vectors of n texts, in their order; the same as sentence-transformers gives, to 1e-6."""
        ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda n: len(ids[n]))
        vectors = np.empty((len(ids), self.words.shape[1]), dtype=np.float32)
        with torch.inference_mode():
            for length, alike in groupby(order, key=lambda n: len(ids[n])):
                rows, most = list(alike), max(1, _TOKENS // length)
                for start in range(0, len(rows), most):
                    batch = rows[start : start + most]
                    vectors[batch] = self._embed(torch.tensor([ids[n] for n in batch])).cpu().numpy()
        return vectors

    def _embed(self, ids: Tensor) -> Tensor:
        """(b, d) unit vectors of (b, t) token ids."""
        hidden = self.words[ids.to(self.words.device)] + self.positions[: ids.shape[1]]
        hidden = self._normed(hidden, self.entry)
        for layer in self.layers:
            hidden = self._layer(hidden, layer)
        return functional.normalize(hidden.mean(dim=1), dim=1)

    def _layer(self, hidden: Tensor, layer: _Layer) -> Tensor:
        batch, tokens, width = hidden.shape
        split = functional.linear(hidden, layer.attend, layer.attend_bias).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        said = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, tokens, width)
        hidden = self._normed(hidden + functional.linear(said, layer.mix, layer.mix_bias), layer.mixed)
        wide = functional.gelu(functional.linear(hidden, layer.widen, layer.widen_bias))
        return self._normed(hidden + functional.linear(wide, layer.narrow, layer.narrow_bias), layer.out)

    def _normed(self, hidden: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        return functional.layer_norm(hidden, hidden.shape[-1:], *weights, self.epsilon)


def is_bert(folder: Path) -> bool:
    """Whether `open_bert` reads this sentence-transformers folder: BERT, the mean of its tokens, a unit vector, no more."""
    names = ("config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json")
    if not all((folder / name).is_file() for name in (*names, "model.safetensors", "tokenizer.json")):
        return False
    config, modules, pooling, _ = (json.loads((folder / name).read_text()) for name in names)
    pooled = [name for name, wanted in pooling.items() if name.startswith("pooling_mode") and wanted]
    return (
        all(config.get(name, wanted) == wanted for name, wanted in _KNOWN.items())
        and [module["type"].rpartition(".")[2] for module in modules] == _MODULES
        and modules[0]["path"] == ""
        and pooled == ["pooling_mode_mean_tokens"]
    )


def open_bert(folder: Path, device: str) -> Bert:
    """The encoder of a folder for which `is_bert`, in single precision."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    stored = load_file(folder / "model.safetensors", device)
    weights = {name.removeprefix("bert."): tensor.float() for name, tensor in stored.items()}
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"])
    # Every text is the first of its pair, so the type is part of the position.
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    return Bert(
        tokenizer,
        weights["embeddings.word_embeddings.weight"],
        positions,
        _norm(weights, "embeddings.LayerNorm"),
        tuple(_read_layer(weights, f"encoder.layer.{n}") for n in range(config["num_hidden_layers"])),
        config["num_attention_heads"],
        config["layer_norm_eps"],
    )


def _read_layer(weights: dict[str, Tensor], name: str) -> _Layer:
    attention = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
    return _Layer(
        torch.cat([weights[f"{part}.weight"] for part in attention]),
        torch.cat([weights[f"{part}.bias"] for part in attention]),
        weights[f"{name}.attention.output.dense.weight"],
        weights[f"{name}.attention.output.dense.bias"],
        _norm(weights, f"{name}.attention.output.LayerNorm"),
        weights[f"{name}.intermediate.dense.weight"],
        weights[f"{name}.intermediate.dense.bias"],
        weights[f"{name}.output.dense.weight"],
        weights[f"{name}.output.dense.bias"],
        _norm(weights, f"{name}.output.LayerNorm"),
    )


def _norm(weights: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]
