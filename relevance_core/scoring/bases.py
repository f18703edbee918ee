"""Finds a base model and checks its identity: an output of *base*, a folder, or a Hugging Face id.

A base is identified by the digest of its files (`models.folders.digest_of_model`), which is recomputed when the base is opened.
Reading many gigabytes takes a minute, so the scratch folder caches the digest until a file changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Final

from relevance_core.errors import ModelError, NotFound
from relevance_core.machine import scratch
from relevance_core.models.base_ref import BaseRef, Dtype
from relevance_core.models.folders import digest_of_model, local_folder, model_files
from relevance_core.registry import BaseInfo, Manifest
from relevance_core.runs.artifacts import Artifact, is_address, open_artifact
from relevance_core.store import Store

_TICK_NS: Final = 2_000_000_000
"""A file changed less than this ago may change again within the same timestamp, so its digest is not cached."""


def open_base(base: Artifact, dtype: Dtype = "auto") -> BaseRef:
    """Opens the base model of a finished *base* output, its folders on this machine.

    `address` in base.json is the output that holds `model/` and `fold-0/`, `fold-1/`, …: this output or an earlier one; without an
    address `model` is a Hugging Face id or a folder. Raises NotFound when that output is gone, ModelError when the files have
    changed since *base* ran.
    """
    about = base.json("base")
    info = BaseInfo(id=about["id"], revision=about["revision"], digest=about.get("digest", ""))
    if not about["address"]:
        return _compared(BaseRef(info.id, about["model"], info.revision, dtype), info.digest)
    holder = base if about["address"] == base.address else open_artifact(base.store, about["address"])
    if holder is None:
        raise NotFound(
            f"the base model {about['id']} is damaged or gone",
            where=base.store.uri_of(about["address"]),
            expected="the folder model/ that an earlier run left there",
            do=f"delete {base.address}/manifest.json and run `relevance stage base` again: it builds the base anew",
        )
    folds = tuple(str(holder.folder(f"fold-{number}")) for number in range(about["folds"]))
    return _compared(BaseRef(info.id, str(holder.folder("model")), info.revision, dtype, folds), info.digest)


def _compared(base: BaseRef, digest: str) -> BaseRef:
    compare(base, digest)
    return base


def base_of(store: Store, version: Manifest) -> BaseRef:
    """Finds the base model of a published version, in its own dtype, auto where none was recorded; `compare` checks its files.

    Raises NotFound when the output of *base* that built it is gone.
    """
    base, dtype = version.base, version.dtype or "auto"
    if not is_address(base.uri):
        return BaseRef(base.id, base.uri or base.id, base.revision, dtype)
    built = open_artifact(store, base.uri)
    if built is None:
        raise NotFound(
            f"the base model {base.id} of {version.name} is damaged or gone",
            where=store.uri_of(base.uri),
            expected="the folder model/ of a finished output of the stage base",
            do="restore it from a backup, or score with a version whose base is there",
        )
    return BaseRef(base.id, str(built.folder("model")), base.revision, dtype)


def compare(base: BaseRef, digest: str) -> bool:
    """Compares the base's files on this machine, the tokenizer's among them, with their digest at the time of training.

    digest: "" where none was recorded. Returns False where nothing can be compared: without a digest, for a Hugging Face id that is
    not downloaded yet, and for a folder with a tokenizer alone. Raises ModelError for other files.
    """
    folder = folder_of(base) if digest else None
    found = digest_of_base(folder) if folder else ""
    if found in ("", digest):
        return found != ""
    raise ModelError(
        f"the files of the base {base.id} are not those that it was trained with: their digest is {found[:16]}…",
        where=str(folder),
        expected=f"weights, configuration and tokenizer of the digest {digest[:16]}…",
        do="bring the base's own files back; to use the new ones, run the loop with them as another base",
    )


def folder_of(base: BaseRef) -> Path | None:
    """Returns the base's folder on this machine; None for a Hugging Face id that is not in the local cache."""
    try:
        return local_folder(base.source, base.revision, base.id)
    except ModelError:
        return None


def digest_of_base(folder: Path) -> str:
    """Returns `digest_of_model` of a folder, cached by path, device, inode, size, and times of each file.

    The time of change is among them: unlike that of the content, no program that copies or unpacks files can set it.
    """
    begun = time.time_ns()
    names = model_files(path.name for path in folder.iterdir() if path.is_file())
    states = _states(folder, names)
    known = scratch("cache") / "digests" / hashlib.sha256(json.dumps([str(folder.absolute()), states]).encode()).hexdigest()
    if known.exists():
        return known.read_text()
    digest = digest_of_model({name: _sha256(folder / name) for name in names})
    latest = max((state[-1] for state in states.values()), default=0)
    if states == _states(folder, names) and latest < begun - _TICK_NS:
        known.parent.mkdir(exist_ok=True)
        unfinished = known.with_suffix(f".{os.getpid()}")
        unfinished.write_text(digest)
        unfinished.replace(known)
    return digest


def _states(folder: Path, names: list[str]) -> dict[str, tuple[int, ...]]:
    found = {name: (folder / name).stat() for name in names}
    return {name: (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in found.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
