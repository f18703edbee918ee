"""Models of this machine: their folders, and what they hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

from relevance_core.errors import ModelError

_DIGITS = 20


def local_folder(name: str, revision: str, where: str) -> Path:
    """The folder of a model: `name` itself, or that of a Hugging Face id in the local cache, named by its commit.

    where: the setting that names it. Raises ModelError if it is not here.
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
    """20 hex digits of the names and content of a model's files, hidden ones left out."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in name.split("/")):
            with path.open("rb") as stream:
                digest.update(f"{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:_DIGITS]
