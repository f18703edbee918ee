"""A shop so small that the whole loop runs on it in a minute, and the command line driven as a user drives it."""

from __future__ import annotations

import datetime
import functools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from relevance_core.processes import take_on
from relevance_core.tools.simulator.market import Market, write

SMALL = (
    "base.builtin.documents=800",
    "base.builtin.contrastive_steps=30",
    "base.builtin.hidden=64",
    "base.builtin.vocabulary=1024",
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
    write(Market(pairs_per_day=700, clicks_per_day=3000, items=400), datetime.date(2026, 10, 1), 4, folder)
    return folder


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    result: dict[str, Any]
    log: str


def relevance(*arguments: str, timeout: float = 600) -> Done:
    """Runs `relevance …` as a user does, in an interpreter of its own, and waits for it."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=timeout, env=environment(), check=False)
    return _done(done.returncode, done.stdout, done.stderr)


def forked(*arguments: str, timeout: float = 600) -> Done:
    """The same in a process that is forked: see `fork`."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "stdout", Path(folder) / "stderr"
        process = fork(arguments, out, err)
        process.join(timeout)
        if process.exitcode is None:
            os.killpg(process.pid or 0, signal.SIGKILL)
        assert process.exitcode is not None, f"not done after {timeout} s: {err.read_text()}"
        return _done(process.exitcode, out.read_text(), err.read_text())


def retrain(store: Path | str, shop: Path, end: str, *more: str) -> Done:
    """`relevance retrain` of a day with the small settings, forked."""
    return forked(*retrain_arguments(store, shop, end, *more))


def fork(arguments: Sequence[str], out: Path, err: Path) -> ForkServerProcess:
    """Starts `relevance …` in a process group of its own, forked from a process that has imported the libraries of a night already.

    An import of all of them takes longer than most of what such a small night does with them. Its output goes to the two files.
    """
    for file in (out, err):
        file.write_text("")
    process = _server().Process(target=_relevance, args=(list(arguments), environment(), out, err))
    process.start()
    return process


@functools.cache
def _server() -> ForkServerContext:
    """The process that is forked from; torch, once imported, keeps the number of threads of that moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.night_libraries"])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        forkserver.ensure_running()
    return context


def _relevance(arguments: list[str], variables: dict[str, str], out: Path, err: Path) -> None:
    """The forked process: the environment and the output of a command, then the command."""
    from relevance_core.cli import main

    os.setsid()
    take_on(variables)
    for file, number in ((out, 1), (err, 2)):
        os.dup2(os.open(file, os.O_WRONLY), number)
    sys.exit(main(arguments))


def _done(code: int, out: str, err: str) -> Done:
    lines = out.splitlines()
    return Done(code, json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}, err)


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
