"""Evidence in cells that run one by one, each written down as it ends, so that an evidence that broke off goes on where it was."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.__main__ import machine
from benchmarks.turns import PROJECT

log = logging.getLogger(__name__)

Cell = Callable[[Path], Any]
"""Takes an empty folder for its files, which is removed afterwards, and returns what JSON can hold."""


@dataclass(frozen=True)
class Evidence:
    """Something that is shown by running it.

    Attributes:
        about: A sentence that the list of evidence shows.
        seeds: All that the cells draw from; written beside each result.
        cells: What there is to run, by a key that says what the cell shows and that no commit changes.
        code: The file that holds the cells. A result of another content of it is made anew: the claim may have changed.
    """

    about: str
    seeds: tuple[int, ...]
    cells: Mapping[str, Cell]
    code: Path


def prove(name: str, evidence: Evidence, out: Path, *, again: bool = False) -> list[str]:
    """Runs the cells that `out`/`name`.json lacks or has from another code, and writes each into it as it ends.

    Args:
        name: The name of the evidence and of its file.
        evidence: What to run.
        out: The folder of results.
        again: Runs the cells that the file has from this code, too.

    Returns:
        The keys of the cells that failed. Their causes are told, and the next call runs them again.
    """
    path = out / f"{name}.json"
    done: dict[str, Any] = json.loads(path.read_text())["cells"] if path.exists() else {}
    failed, code = [], hashlib.sha256(evidence.code.read_bytes()).hexdigest()[:16]
    for key, cell in evidence.cells.items():
        if key in done and done[key].get("code") == code and not again:
            log.info("%s, %s: kept from commit %s", name, key, done[key]["commit"])
            continue
        log.info("%s, %s: begun", name, key)
        about, started = origin(evidence.seeds), time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="relevance-prove-") as work:
                result = cell(Path(work))
        except Exception:  # whatever one cell fails with, the others are worth their hours
            log.exception("%s, %s: failed", name, key)
            failed.append(key)
            continue
        seconds = round(time.monotonic() - started, 1)
        done[key] = about | {"code": code, "seconds": seconds, "result": result}
        write(path, {"what": name, "about": evidence.about, "cells": done})
        log.info("%s, %s: %s s", name, key, seconds)
    return failed


def origin(seeds: tuple[int, ...]) -> dict[str, Any]:
    """What a result was taken from: the commit, with `+changes` where files of it were changed, the seeds, machine and moment."""
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "commit": f"{commit or 'unknown'}{'+changes' if changed else ''}",
        "seeds": list(seeds),
        "machine": machine(),
        "at": now,
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Replaces the file as a whole: a process that is killed while it writes leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    partial.replace(path)


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, check=False)  # noqa: S607 - the git in use
    return done.stdout.strip()
