"""Outputs of stages in the store: what a stage writes, the report it returns, and how a finished output is opened and checked."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from relevance_core.errors import NotFound, ProgramError, StoreError
from relevance_core.machine import scratch
from relevance_core.pairs import Task
from relevance_core.store import Store
from relevance_core.store.disk import replacement

MANIFEST = "manifest.json"
TABLE_SUFFIX = ".parquet"
_ROOT: Final = "stages/"


@dataclass(frozen=True)
class Rows:
    """Counts of a stage's rows by fate. `incoming + made == kept + quarantined + dropped`, checked when built.

    `made` counts rows that the stage itself created (translations, negatives); `reasons` counts, by reason, the rows that were not
    kept: `{"quarantined: label_in_0_1": 3, "dropped: duplicate": 2}`.
    """

    incoming: int = 0
    made: int = 0
    kept: int = 0
    quarantined: int = 0
    dropped: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.incoming + self.made != self.kept + self.quarantined + self.dropped:
            raise ProgramError(f"rows got lost: {self}", expected="in + made = kept + quarantined + dropped")
        if sum(self.reasons.values()) != self.quarantined + self.dropped:
            raise ProgramError(f"rows without a reason: {self}", expected="one reason for every row not kept")

    def as_json(self) -> dict[str, Any]:
        """Returns the counts as the command line prints them; "in" counts incoming and made rows together."""
        return {
            "in": self.incoming + self.made,
            "made": self.made,
            "kept": self.kept,
            "quarantined": self.quarantined,
            "dropped": self.dropped,
            "reasons": dict(sorted(self.reasons.items())),
        }


@dataclass(frozen=True)
class Report:
    """A stage's report: rows, figures and short tables for people. It holds no time and no machine, so it is reproducible.

    failure: the reason why the run can't continue after this output (`what`, `where`, `expected`, `do`). The output is finished
    nevertheless, so that people can inspect it; a second attempt fails at once with the same message.
    """

    rows: Rows
    figures: Mapping[str, Any] = field(default_factory=dict)
    stage: str = ""
    task: Task | None = None
    address: str = ""
    digest: str = ""
    found: bool = False
    failure: Mapping[str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns one JSON object, which the DAG passes between tasks."""
        return {
            "stage": self.stage,
            "task": self.task,
            "address": self.address,
            "digest": self.digest,
            "found": self.found,
            "rows": self.rows.as_json(),
            "figures": dict(self.figures),
            "failure": dict(self.failure) if self.failure else None,
        }


@dataclass(frozen=True)
class Artifact:
    """A finished output of a stage in the store."""

    store: Store
    address: str
    digest: str
    files: Mapping[str, Mapping[str, Any]]
    report: Report

    def table(self, name: str, columns: list[str] | None = None) -> pl.DataFrame:
        """Reads the Parquet table `name` of this output."""
        return pl.read_parquet(self.path(name + TABLE_SUFFIX), columns=columns)

    def json(self, name: str) -> Any:
        """Reads the JSON file `name` (without suffix) of this output."""
        return json.loads(self.store.read(self.key(name + ".json")))

    def key(self, file: str) -> str:
        """Returns the store key of a file of this output. Raises NotFound for a file it does not have."""
        if file not in self.files:
            raise NotFound(f"{self.address} has no {file}", expected=", ".join(sorted(self.files)))
        return f"{self.address}/{file}"

    def path(self, file: str) -> Path:
        """Returns a local path of the file, downloaded once into the scratch folder from a remote store. Raises NotFound."""
        key = self.key(file)
        local = self.store.local_path(key)
        if local is not None:
            return local
        cached = scratch("cache") / self.digest / file
        if not cached.exists():
            self._download(key, cached, str(self.files[file]["sha256"]))
        return cached

    def folder(self, prefix: str) -> Path:
        """Returns a local folder that holds the files under `prefix/` of this output. Raises NotFound where there are none."""
        names = [name for name in self.files if name.startswith(prefix + "/")]
        if not names:
            raise NotFound(f"{self.address} has no folder {prefix}", expected=", ".join(sorted(self.files)))
        if (local := self.store.local_path(self.address)) is not None:
            return local / prefix
        for name in names:
            self.path(name)
        return scratch("cache") / self.digest / prefix

    def _download(self, key: str, path: Path, sha256: str) -> None:
        """Downloads a file under another name, and gives it its own once its sha256 is the manifest's."""
        with replacement(path) as unchecked:
            self.store.download(key, unchecked)
            if _sha256(unchecked) != sha256:
                raise StoreError(
                    "a file is not what its manifest says",
                    where=self.store.uri_of(key),
                    expected=f"sha256 {sha256}",
                    do="delete the stage's manifest beside it and run the stage again",
                )


class Output:
    """The output that a stage's body writes. Files are uploaded as they come and become visible with the manifest, which is last.

    `work` is a scratch folder of this output alone: it survives a killed process, so a long computation can keep checkpoints there.
    """

    def __init__(self, store: Store, address: str) -> None:
        self.store, self.address = store, address
        self.files: dict[str, dict[str, Any]] = {}
        self.work = scratch("work") / address.replace("/", "_")

    def table(self, name: str, frame: pl.DataFrame) -> None:
        """Writes a Parquet table; equal frames give equal bytes."""
        self.work.mkdir(parents=True, exist_ok=True)
        path = self.work / (name + TABLE_SUFFIX)
        frame.write_parquet(path, compression="zstd", statistics=True)
        self.file(name + TABLE_SUFFIX, path)

    def json(self, name: str, value: Any) -> None:
        """Writes a JSON file."""
        self.bytes(name + ".json", json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode())

    def bytes(self, file: str, data: bytes) -> None:
        """Writes a file from memory."""
        self.store.write(f"{self.address}/{file}", data)
        self.files[file] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    def file(self, file: str, path: Path) -> None:
        """Uploads a local file."""
        self.store.upload(path, f"{self.address}/{file}")
        self.files[file] = {"size": path.stat().st_size, "sha256": _sha256(path)}

    def folder(self, prefix: str, path: Path) -> None:
        """Uploads every file below a local folder as `prefix/…`."""
        for item in sorted(path.rglob("*")):
            if item.is_file():
                self.file(f"{prefix}/{item.relative_to(path).as_posix()}", item)


def folder_of(name: str, task: str | None) -> str:
    """Returns the folder of a stage's outputs in the store: `stages/mine-qc/`. An output's address is this and its key."""
    return f"{_ROOT}{name}{'-' + task.lower() if task else ''}/"


def is_address(text: str) -> bool:
    """Tells the address of a stage's output from the other places where a base can lie: a folder, a Hugging Face id."""
    return text.startswith(_ROOT)


def open_artifact(store: Store, address: str, verify: bool = True) -> Artifact | None:
    """Returns the finished output at `address`, or None when there is none or a file of it is missing or has another size.

    verify: check the files. A page that only shows an output can skip this and trust the manifest, which is a single read.
    """
    if not store.exists(f"{address}/{MANIFEST}"):
        return None
    manifest = json.loads(store.read(f"{address}/{MANIFEST}"))
    if verify and not _intact(store, address, manifest["files"]):
        return None
    rows = manifest["rows"]
    report = Report(
        Rows(rows["in"] - rows["made"], rows["made"], rows["kept"], rows["quarantined"], rows["dropped"], rows["reasons"]),
        manifest["figures"],
        manifest["stage"],
        manifest["task"],
        address,
        manifest["digest"],
        found=True,
        failure=manifest["failure"],
    )
    return Artifact(store, address, manifest["digest"], manifest["files"], report)


def _intact(store: Store, address: str, files: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tells whether every file has its size, and in a local store its sha256 (elsewhere that is checked on download)."""
    sizes = {entry.key.removeprefix(address + "/"): entry.size for entry in store.list(address + "/")}
    if any(sizes.get(name) != entry["size"] for name, entry in files.items()):
        return False
    local = store.local_path(address)
    return local is None or all(_sha256(local / name) == entry["sha256"] for name, entry in files.items())


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def label(name: str, task: Task | None) -> str:
    """Returns the name of a stage in messages: `mine QC`."""
    return f"{name} {task}" if task else name


def finish(out: Output, report: Report, name: str, task: Task | None) -> Report:
    """Writes the manifest, last, and removes the scratch folder."""
    digest = hashlib.sha256(json.dumps({k: v["sha256"] for k, v in sorted(out.files.items())}).encode()).hexdigest()
    figures = json.loads(json.dumps(report.figures))
    finished = Report(report.rows, figures, name, task, out.address, digest, failure=report.failure)
    manifest = finished.as_json() | {"files": out.files}
    del manifest["found"], manifest["address"]
    out.store.write(f"{out.address}/{MANIFEST}", json.dumps(manifest, indent=1, sort_keys=True).encode())
    shutil.rmtree(out.work, ignore_errors=True)
    return finished
