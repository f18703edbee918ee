"""Models of this machine: their folders, files and digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from relevance_core.errors import ModelError

_DIGITS = 20
_WEIGHTS: Final = (".safetensors", ".safetensors.index.json")
_OLD_WEIGHTS: Final = (".bin", ".bin.index.json")
_SETTINGS: Final = frozenset({"config.json", "tokenizer_config.json"})
_TOKENIZER: Final = "tokenizer.json"
_OLD_TOKENIZER: Final = frozenset({"vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "added_tokens.json"})
"""Tokenizer files that are read where there is no tokenizer.json, and are redundant beside one."""


def local_folder(name: str, revision: str, where: str) -> Path:
    """Finds the folder of a model: `name` itself, or the folder of a Hugging Face id in the local cache.

    Args:
        name: a folder or a Hugging Face id.
        revision: of a Hugging Face id.
        where: the setting that names the model, for the error.

    Raises:
        ModelError: the model is not on this machine.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"there is no model {name!r}, revision {revision}, here",
            where=where,
            expected="a folder, or a Hugging Face id that is in the local cache",
            do=f"fetch it while online: hf download {name} --revision {revision}",
        ) from error


def digest_of_folder(folder: Path) -> str:
    """Returns 20 hex digits of the names and content of a model's files, hidden ones left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in name.split("/")):
            with path.open("rb") as stream:
                digest.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:_DIGITS]


def model_files(names: Iterable[str]) -> list[str]:
    """Lists the files of a model folder that its scores depend on: weights, their configuration and the tokenizer, sorted.

    Empty without weights. A README, a licence, hidden files and the settings of text generation are no part of a model: a download
    may have them or not.
    """
    there = [name for name in names if "/" not in name and not name.startswith(".")]
    weights = [name for name in there if name.endswith(_WEIGHTS)] or [name for name in there if name.endswith(_OLD_WEIGHTS)]
    tokenizer = {_TOKENIZER} if _TOKENIZER in there else _OLD_TOKENIZER
    return sorted([*weights, *(name for name in there if name in _SETTINGS | tokenizer)]) if weights else []


def digest_of_model(files: Mapping[str, str]) -> str:
    """Returns the SHA-256 of names and content of the files that scores depend on; "" for a folder without weights.

    files: name → SHA-256 of its content, in any order; other files are ignored.
    """
    lines = [f"{name}\0{files[name]}\n" for name in model_files(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else ""
