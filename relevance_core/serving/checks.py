"""Checks of an adapter's files before a server loads them: an engine accepts NaNs and missing layers silently."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from relevance_core.errors import ModelError, RegistryError
from relevance_core.registry.adapter_files import WEIGHTS, read_adapter
from relevance_core.registry.manifest import LoraInfo, Manifest
from relevance_core.registry.versions import DOCUMENTS

_PREFIX = "base_model.model."
_SHOWN = 3


@dataclass(frozen=True)
class ServedBase:
    """The base model that a server holds.

    label: its name in manifests (`BaseInfo.label`). folder: has its configuration. digest: of its files, "" where none was
    recorded.
    """

    label: str
    folder: Path
    digest: str = ""

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Returns (inputs, outputs) of each linear layer, by its name in the model.

        Raises ModelError for a folder that holds no model.
        """
        return _linear_layers(self.folder)


@functools.lru_cache(maxsize=4)
def _linear_layers(folder: Path) -> dict[str, tuple[int, int]]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):  # shapes without weights
            model = AutoModelForCausalLM.from_config(config)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the base's configuration can't be read: {str(error).splitlines()[0]}",
            where=str(folder),
            expected="a folder written by save_pretrained",
        ) from error
    modules = model.named_modules()
    return {name: (module.in_features, module.out_features) for name, module in modules if isinstance(module, torch.nn.Linear)}


def check_stated(manifest: Manifest, base: ServedBase, max_rank: int) -> None:
    """Checks the values that a manifest states.

    Args:
        manifest: of the version.
        base: of the server.
        max_rank: the largest LoRA rank that the server takes.

    Raises:
        RegistryError: it requires a feature that this release does not know, names another base, or states a higher rank.
    """
    manifest.require_scorable()
    if base.digest and manifest.base_digest and manifest.base_digest != base.digest:
        raise RegistryError(
            f"{manifest.name} was trained on other files of the base {base.label}",
            where="base of its manifest",
            expected=f"the digest {base.digest[:16]}…, not {manifest.base_digest[:16]}…",
            do="serve it from a server of its own base (relevance serve --base)",
        )
    if manifest.base.label != base.label:
        raise RegistryError(
            f"{manifest.name} was made for the base {manifest.base.label!r}",
            where="base of its manifest",
            expected=repr(base.label),
            do="serve it from a server of its own base (relevance serve --base)",
        )
    if manifest.lora.r > max_rank:
        raise RegistryError(
            f"{manifest.name} has rank {manifest.lora.r}",
            where="lora of its manifest",
            expected=f"at most {max_rank}, as the server was started",
            do="start the servers with a larger serving.max_rank, or train with a smaller train.r",
        )


def check_servable(folder: Path, manifest: Manifest, base: ServedBase, max_rank: int) -> None:
    """Checks that a server of `base` will give the adapter in `folder` the scores that its trainer saw.

    Checked: base and rank as stated; every file's size and SHA-256; safetensors and JSON only; plain LoRA of one rank; finite
    numbers; and one lora_A (rank × inputs) and lora_B (outputs × rank) for every layer of the base that a target names, and no
    other tensor. Each file is read twice, the weights into memory.

    Args:
        folder: a fetched version.
        manifest: of the version.
        base: of the server.
        max_rank: the largest LoRA rank that the server takes.

    Raises:
        RegistryError: a check failed.
        StoreError: the disk failed.
    """
    check_stated(manifest, base, max_rank)
    files, lora = read_adapter(folder, manifest.base, beside=DOCUMENTS)
    found, stated = ({name: (info.size, info.sha256) for name, info in of.items()} for of in (files, manifest.files))
    if found != stated or any(getattr(lora, name) != getattr(manifest.lora, name) for name in LoraInfo.model_fields):
        different = sorted(name for name in {*found, *stated} if found.get(name) != stated.get(name))
        raise RegistryError(
            f"the files of {manifest.name} are not those of its manifest: {', '.join(different) or f'{lora} there'}",
            where=str(folder),
            do="remove that folder; the version is fetched again",
        )
    _check_layers(_shapes_of(folder / WEIGHTS), manifest, base)


def _shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping


def _check_layers(found: dict[str, tuple[int, ...]], manifest: Manifest, base: ServedBase) -> None:
    expected = _expected(manifest, base.shapes())
    problems = [f"{name} belongs to no layer of the base" for name in sorted(found) if name not in expected]
    problems += [f"{name} is missing" for name in expected if name not in found]
    problems += [
        f"{name} has the shape {list(found[name])}, not {list(shape)}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    if problems:
        raise RegistryError(
            f"the weights of {manifest.name} do not fit the base: {_some(problems)}",
            where=WEIGHTS,
            expected=f"one pair of rank {manifest.lora.r} for each layer of {base.label} named {', '.join(manifest.lora.targets)}",
            do="train it again on this base",
        )


def _expected(manifest: Manifest, layers: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Returns name and shape of every tensor that an adapter of these targets has on this base."""
    targets, rank = manifest.lora.targets, manifest.lora.r
    expected = {}
    for layer, (inputs, outputs) in layers.items():
        if any(layer == target or layer.endswith("." + target) for target in targets):
            expected[f"{_PREFIX}{layer}.lora_A.weight"] = (rank, inputs)
            expected[f"{_PREFIX}{layer}.lora_B.weight"] = (outputs, rank)
    return expected


def _some(problems: list[str]) -> str:
    """Joins the first few of what may be hundreds of problems."""
    more = len(problems) - _SHOWN
    return "; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
