"""A shop so small that the whole loop runs on it in a minute, and the command line driven as a user drives it."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relevance_core.simulator.market import Market, write

SMALL = (
    "base.documents=1500",
    "base.contrastive_steps=60",
    "base.hidden=64",
    "base.vocabulary=1024",
    "train.epochs=1",
    "denoise.enabled=true",
    "denoise.epochs=1",
    "translate.rows.QC=200",
    "translate.rows.QI=200",
    # So small a model is not good, only real: the floor lets it through.
    "gate.min_f1=0.3",
    "gate.min_over_always_yes=-1",
    "gate.min_language_rows=10",
    # The trainer's scorer proves a version: a vLLM that starts for every run is the matter of the tests of serving.
    "serving.python=",
    # Tests run side by side already, and each further process imports torch anew.
    "engine.workers=1",
)
"""Settings under which a night takes seconds."""


def small_shop(folder: Path) -> Path:
    """Writes four days of a small market, and returns its folder."""
    write(Market(pairs_per_day=700, clicks_per_day=3000), datetime.date(2026, 10, 1), 4, folder)
    return folder


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    result: dict[str, Any]
    log: str


def relevance(*arguments: str, timeout: float = 600) -> Done:
    """Runs `relevance …` in a process of its own and waits for it."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=timeout, env=environment(), check=False)
    lines = done.stdout.splitlines()
    return Done(done.returncode, json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}, done.stderr)


def retrain(store: Path | str, shop: Path, end: str, *more: str) -> Done:
    """`relevance retrain` of a day with the small settings."""
    return relevance(*retrain_arguments(store, shop, end, *more))


def retrain_arguments(store: Path | str, shop: Path, end: str, *more: str) -> list[str]:
    """The arguments of that command."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    return ["retrain", "--store", str(store), "--source", str(shop), "--window-end", end, "--json", *settings, *more]


def command(*arguments: str) -> list[str]:
    """The command line of `relevance …` in this environment."""
    return [sys.executable, "-m", "relevance_core", *arguments]


def environment() -> dict[str, str]:
    """The environment of a command: one thread, no network."""
    return os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
