"""Adapters for a random base, whole ones and the twelve kinds of damaged ones, as a registry holds them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from relevance_core.registry import AdapterMeta, BaseInfo, LoraInfo, Manifest, PromptInfo, Registry
from relevance_core.registry.adapter_files import CONFIG, MANIFEST, WEIGHTS
from relevance_core.registry.manifest import FileInfo
from relevance_core.registry.signing import SIGNATURE, Key, signature_of
from relevance_core.store import Store
from relevance_core.store.disk import file_chunks
from relevance_core.store.objects import digest_of

BASE = BaseInfo(id="random-base", digest="b1")
TARGETS = ("q_proj", "v_proj", "down_proj")
RANK, LAYERS = 4, 2
#: Layer in the model: (inputs, outputs), by `CONFIG_OF_BASE`.
SHAPES = {"self_attn.q_proj": (64, 64), "self_attn.v_proj": (64, 32), "mlp.down_proj": (96, 64)}
#: 32 is the smallest head that vLLM's CPU build takes.
CONFIG_OF_BASE: dict[str, Any] = {
    "vocab_size": 600, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 512, "tie_word_embeddings": True, "initializer_range": 0.2,
}  # fmt: skip
Tensors = dict[str, np.ndarray[Any, Any]]


def config_folder(folder: Path) -> Path:
    """The configuration of a Qwen3 with two layers of 64, without weights or tokenizer: all that the checks read of a base."""
    folder.mkdir(parents=True)
    fields = CONFIG_OF_BASE | {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def save_base(folder: Path, seed: int = 1) -> Path:
    """The same with random weights and a tokenizer, as a server needs it."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from tests.support.models_fixture import make_tokenizer

    torch.manual_seed(seed)
    Qwen3ForCausalLM(Qwen3Config(**CONFIG_OF_BASE)).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def make_tensors(seed: int = 1, rank: int = RANK, layers: range = range(LAYERS), scale: float = 0.3) -> Tensors:
    """Random LoRA matrices for `TARGETS` of these layers."""
    numbers = np.random.default_rng(seed)
    tensors = {}
    for layer in layers:
        for name, (inputs, outputs) in SHAPES.items():
            at = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{at}.lora_A.weight"] = numbers.normal(0, scale, (rank, inputs)).astype(np.float32)
            tensors[f"{at}.lora_B.weight"] = numbers.normal(0, scale, (outputs, rank)).astype(np.float32)
    return tensors


def save_adapter(folder: Path, tensors: Tensors, rank: int = RANK, base: str = BASE.id) -> Path:
    """The folder that peft would write for these matrices."""
    folder.mkdir(parents=True)
    save_file(tensors, folder / WEIGHTS)
    settings = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": [*TARGETS],
        "base_model_name_or_path": base,
    }
    (folder / CONFIG).write_text(json.dumps(settings | {"bias": "none", "modules_to_save": None}))
    (folder / "golden.json").write_text('{"answers": [0, 0], "rows": []}')
    return folder


def meta(name: str = "a", base: BaseInfo = BASE) -> AdapterMeta:
    """What a publisher states; `name` makes the version another one."""
    prompt = PromptInfo(name="compact", version="1")
    return AdapterMeta(base=base, prompt=prompt, threshold=0.4, languages=("en",), data={"train": name}, created="2026-01-31")


def publish(store: Store, folder: Path, seed: int = 1, sign: Key | None = None) -> Manifest:
    """A whole adapter of this seed, published as QC; its files are made in `folder`."""
    adapter = save_adapter(folder / f"whole-{seed}", make_tensors(seed))
    return Registry(store).publish("QC", adapter, meta(f"seed {seed}"), sign)


def publish_unchecked(store: Store, folder: Path, sign: Key | None = None, rank: int = RANK, base: BaseInfo = BASE) -> Manifest:
    """Stores what lies in `folder` as a version of QC that nobody looked at; everything in its manifest is in order."""
    digests = {path.name: digest_of(file_chunks(path)) for path in sorted(folder.iterdir())}
    files = {name: FileInfo(size=found.size, sha256=found.sha256) for name, found in digests.items()}
    lora = LoraInfo(r=rank, alpha=2 * rank, targets=tuple(sorted(TARGETS)))
    manifest = Manifest.build("QC", files, lora, meta(folder.name, base))
    for name in files:
        store.write(_key(manifest, name), (folder / name).read_bytes())
    write_manifest(store, manifest, manifest.to_bytes(), sign)
    return manifest


def write_manifest(store: Store, manifest: Manifest, data: bytes, sign: Key | None) -> None:
    """`data` as the manifest of that version, signed if there is a key."""
    store.write(_key(manifest, MANIFEST), data)
    if sign:
        store.write(_key(manifest, SIGNATURE), signature_of(data, sign))


@dataclass(frozen=True)
class Bench:
    """Where damaged versions are made: a store, a scratch folder, the key that the server trusts and one that it does not."""

    store: Store
    folder: Path
    key: Key
    other: Key

    def whole(self, seed: int = 1) -> Manifest:
        """A whole, signed version."""
        return publish(self.store, self.folder, seed, self.key)

    def unchecked(self, name: str, tensors: Tensors, rank: int = RANK) -> Manifest:
        """A signed version of matrices that nobody looked at."""
        return publish_unchecked(self.store, save_adapter(self.folder / name, tensors, rank), self.key, rank)


def _key(manifest: Manifest, name: str) -> str:
    return f"adapters/qc/{manifest.version}/{name}"


def _truncated(bench: Bench) -> str:
    manifest = bench.whole(11)
    key = _key(manifest, WEIGHTS)
    bench.store.write(key, bench.store.read(key)[:-100])
    return manifest.name


def _flipped(bench: Bench) -> str:
    manifest = bench.whole(12)
    key = _key(manifest, WEIGHTS)
    data = bytearray(bench.store.read(key))
    data[-5] ^= 1
    bench.store.write(key, bytes(data))
    return manifest.name


def _nan(bench: Bench) -> str:
    return bench.unchecked("nan", {name: np.full_like(value, np.nan) for name, value in make_tensors().items()}).name


def _one_layer(bench: Bench) -> str:
    return bench.unchecked("one-layer", make_tensors(layers=range(1))).name


def _other_layers(bench: Bench) -> str:
    return bench.unchecked("other-layers", make_tensors(layers=range(7, 9))).name


def _large_rank(bench: Bench) -> str:
    return bench.unchecked("large-rank", make_tensors(rank=64), 64).name


def _wrong_shape(bench: Bench) -> str:
    tensors = make_tensors()
    name = next(name for name in tensors if name.endswith("lora_B.weight"))
    return bench.unchecked("wrong-shape", tensors | {name: np.ones((48, RANK), np.float32)}).name


def _other_base(bench: Bench) -> str:
    folder = save_adapter(bench.folder / "other-base", make_tensors(), base="another-base")
    return publish_unchecked(bench.store, folder, bench.key, base=BaseInfo(id="another-base", digest="b1")).name


def _pickle(bench: Bench) -> str:
    """The weights are a pickle, under the one name that a manifest can hold."""
    folder = save_adapter(bench.folder / "pickle", make_tensors())
    (folder / WEIGHTS).write_bytes(pickle.dumps(load_file(folder / WEIGHTS)))
    return publish_unchecked(bench.store, folder, bench.key).name


def _traversal(bench: Bench) -> str:
    """A whole version lies where the path would lead."""
    return f"relevance-qc@../../adapters/qc/{bench.whole(13).version}"


def _edited(bench: Bench) -> str:
    """Signed after it was edited, so that only the manifest itself can show it."""
    manifest = bench.whole(14)
    fields = json.loads(manifest.to_bytes()) | {"threshold": 0.9}
    write_manifest(bench.store, manifest, json.dumps(fields).encode(), bench.key)
    return manifest.name


def _wrong_signature(bench: Bench) -> str:
    """A manifest in order in itself, its base elsewhere, signed with another key."""
    manifest = bench.whole(15)
    moved = manifest.model_copy(update={"base": BASE.model_copy(update={"uri": "s3://elsewhere"})})
    rebuilt = Manifest.build(
        "QC", dict(moved.files), moved.lora, AdapterMeta(**{k: getattr(moved, k) for k in AdapterMeta.model_fields})
    )
    assert rebuilt.version == manifest.version
    write_manifest(bench.store, rebuilt, rebuilt.to_bytes(), bench.other)
    return manifest.name


#: Kind: (what makes such a version and returns the name to ask for, what the refusal's line says).
DAMAGED: dict[str, tuple[Callable[[Bench], str], str]] = {
    "truncated": (_truncated, r"adapter_model\.safetensors: \d+ bytes, the manifest says"),
    "one flipped byte": (_flipped, r"adapter_model\.safetensors: SHA-256"),
    "all NaN": (_nan, r"holds values that are not finite"),
    "one layer only": (_one_layer, r"layers\.1\.\S+ is missing"),
    "layer names that don't exist": (_other_layers, r"layers\.7\.\S+ belongs to no layer of the base"),
    "rank 64 on a 32 server": (_large_rank, r"has rank 64; .*expected: at most 32"),
    "wrong shape": (_wrong_shape, r"lora_B\.weight has the shape \[48, 4\], not \[64, 4\]"),
    "other base": (_other_base, r"was made for the base 'another-base@b1'; .*expected: 'random-base@b1'"),
    "pickle file": (_pickle, r"the weights can't be read"),
    "path traversal in a name": (_traversal, r"it is no adapter's name"),
    "manifest edited": (_edited, r"changed after it was written"),
    "signature wrong": (_wrong_signature, r"wrong signature: it was changed, or signed with another key"),
}
