"""Checks of an adapter before it is published: a plain LoRA in safetensors, described by JSON, with nothing that can run code."""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from relevance_core.errors import RegistryError
from relevance_core.registry.manifest import BaseInfo, FileInfo, LoraInfo
from relevance_core.store.disk import file_chunks
from relevance_core.store.objects import digest_of

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MANIFEST = "manifest.json"

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}\.(safetensors|json)")
_TENSOR_NAME = re.compile(r"(?P<layer>[A-Za-z0-9_.]+)\.lora_(?P<side>[AB])\.weight")
#: Settings of peft that change the model beyond low-rank updates of linear layers, with the value that means "not used".
_MUST_BE_OFF: dict[str, object] = {
    "modules_to_save": None, "bias": "none", "use_dora": False, "rank_pattern": {}, "alpha_pattern": {},
    "trainable_token_indices": None, "target_parameters": None, "layer_replication": None, "megatron_config": None,
}  # fmt: skip
#: dtype → (bytes per value, mask of the exponent's bits); all exponent bits set means an infinity or a NaN.
_FLOATS = {"F32": (4, 0x7F800000), "F16": (2, 0x7C00), "BF16": (2, 0x7F80)}


def read_adapter(folder: Path, base: BaseInfo, beside: Collection[str] = ()) -> tuple[dict[str, FileInfo], LoraInfo]:
    """Checks the adapter in `folder` and returns its files (name → size and digest) and its LoRA settings.

    Args:
        folder: written by `save_pretrained`.
        base: the base that the adapter must name.
        beside: names of files in the folder that are no part of the adapter, such as a fetched version's documents.

    Raises:
        RegistryError: a file is neither safetensors nor JSON, the adapter is no plain LoRA on linear layers or names another base,
            or a
            tensor is missing, of another rank, or not finite.
    """
    names = _file_names(folder, beside)
    lora = _read_config(folder / CONFIG, base)
    _check_tensors(folder / WEIGHTS, lora)
    digests = {name: digest_of(file_chunks(folder / name)) for name in names}
    return {name: FileInfo(size=d.size, sha256=d.sha256) for name, d in digests.items()}, lora


def _file_names(folder: Path, beside: Collection[str]) -> list[str]:
    if not folder.is_dir():
        raise RegistryError("there is no folder to publish", where=str(folder), expected="a folder written by save_pretrained")
    paths = sorted(path for path in folder.iterdir() if path.name not in beside)
    for path in paths:
        if path.is_symlink() or not path.is_file() or not _FILE_NAME.fullmatch(path.name) or path.name == MANIFEST:
            raise RegistryError(
                f"{path.name!r} can't be published",
                where=str(folder),
                expected="regular .safetensors and .json files with plain names, no manifest.json",
                do="remove it; pickles and scripts can run code where they are loaded",
            )
    for name in (CONFIG, WEIGHTS):
        if folder / name not in paths:
            raise RegistryError(f"the adapter has no {name}", where=str(folder), do="save it with save_pretrained")
    return [path.name for path in paths]


def _read_config(path: Path, base: BaseInfo) -> LoraInfo:
    try:
        config: dict[str, Any] = json.loads(path.read_bytes())
        kind, rank, alpha, targets = (config[name] for name in ("peft_type", "r", "lora_alpha", "target_modules"))
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError(f"the adapter's configuration can't be read: {error!r}", where=str(path)) from error
    if kind != "LORA" or not isinstance(targets, list):
        raise RegistryError(
            "the adapter is no LoRA on named layers", where=str(path), expected='"peft_type": "LORA", a list of target_modules'
        )
    for name, off in _MUST_BE_OFF.items():
        if config.get(name) not in (off, None, []):
            raise RegistryError(
                f"the adapter uses {name} = {config[name]!r}",
                where=str(path),
                expected="low-rank updates of linear layers only, all of one rank",
                do=f"train without {name}; a server applies the low-rank part alone, and its scores would differ",
            )
    if config.get("base_model_name_or_path") != base.id:
        raise RegistryError(
            f"the adapter was made for the base {config.get('base_model_name_or_path')!r}",
            where=str(path),
            expected=f"base_model_name_or_path = {base.id!r}, as stated by the publisher",
            do="publish it with its own base, or write the base's id (never a local path) when saving",
        )
    try:
        return LoraInfo(r=rank, alpha=alpha, targets=tuple(sorted(targets)))
    except (ValueError, TypeError) as error:
        raise RegistryError(
            f"the adapter has r = {rank!r}, lora_alpha = {alpha!r}, target_modules = {targets!r}",
            where=str(path),
            expected="a positive whole number, a finite number, a list of names",
        ) from error


def _check_tensors(path: Path, lora: LoraInfo) -> None:
    from safetensors import SafetensorError, deserialize

    try:
        tensors: list[tuple[str, dict[str, Any]]] = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise RegistryError(f"the weights can't be read: {error}", where=str(path), do="save the adapter again") from error
    sides: dict[str, set[str]] = {}
    for name, tensor in tensors:
        match = _TENSOR_NAME.fullmatch(name)
        problem = _tensor_problem(match["side"], tensor, lora.r) if match else "is no LoRA matrix of a linear layer"
        if problem or not match:
            raise RegistryError(
                f"the tensor {name!r} {problem}", where=str(path), expected=f"finite lora_A, lora_B of rank {lora.r}"
            )
        sides.setdefault(match["layer"], set()).add(match["side"])
    incomplete = sorted(layer for layer, found in sides.items() if len(found) != 2)
    unused = sorted(t for t in lora.targets if not any(layer == t or layer.endswith("." + t) for layer in sides))
    if incomplete or unused or not sides:
        raise RegistryError(
            f"the weights are incomplete: half a pair in {incomplete}, no tensors for the targets {unused}",
            where=str(path),
            do="save the whole adapter again",
        )


def _tensor_problem(side: str, tensor: Any, rank: int) -> str:
    import numpy as np

    shape = tensor["shape"]
    if len(shape) != 2 or shape[0 if side == "A" else 1] != rank:
        return f"has the shape {shape}, not of rank {rank}"
    if tensor["dtype"] not in _FLOATS:
        return f"has the type {tensor['dtype']}, not one of {', '.join(_FLOATS)}"
    width, exponent = _FLOATS[tensor["dtype"]]
    bits = np.frombuffer(tensor["data"], dtype=f"<u{width}")
    return "holds values that are not finite" if bool(((bits & exponent) == exponent).any()) else ""
