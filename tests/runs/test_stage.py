"""The stage framework: finished work is found, unfinished work is invisible, no row is lost."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from relevance_core import config
from relevance_core.config import Settings
from relevance_core.errors import ProgramError, StoreError, ValidationFailed
from relevance_core.runs.artifacts import Output, Report, Rows, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.store import Store

SETTINGS = config.load()


def counting(body: Callable[[Settings, Inputs, Output], Report] | None = None) -> tuple[Callable[..., Report], list[int]]:
    """A stage that uses `seed` and writes the table [1, 2], and the list that grows whenever its body runs."""
    calls: list[int] = []

    @stage("numbers", uses=("seed", "train.epochs"))
    def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
        calls.append(settings.seed)
        out.table("numbers", pl.DataFrame({"n": [1, 2]}))
        return body(settings, inputs, out) if body else Report(Rows(incoming=2, kept=2))

    return run, calls


def test_finished_output_is_found_and_not_made_again(store: Store) -> None:
    """The second call with the same settings and inputs runs nothing and returns the same digest."""
    run, calls = counting()
    first, second = run(SETTINGS, Inputs(), store), run(SETTINGS, Inputs(), store)
    assert len(calls) == 1
    assert (first.digest, first.found, second.digest, second.found) == (first.digest, False, first.digest, True)


def test_two_at_once_make_an_output_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Of two that begin the same output on one machine, the second says that it waits and then finds what the first made."""
    caplog.set_level("INFO", "relevance_core")
    begun = threading.Event()

    def slow(settings: Settings, inputs: Inputs, out: Output) -> Report:
        begun.set()
        deadline = time.monotonic() + 30
        while "waiting" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        return Report(Rows(incoming=2, kept=2))

    run, calls = counting(slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, SETTINGS, Inputs(), store)
        assert begun.wait(30)
        second = pool.submit(run, SETTINGS, Inputs(), store)
        assert (first.result(30).found, second.result(30).found) == (False, True)
    assert len(calls) == 1
    started, waits, *_ = caplog.messages
    assert started == "numbers: started"
    assert waits == "numbers: another process of this machine is at it; waiting for that one"


def test_only_settings_that_a_stage_uses_make_it_run_again(store: Store) -> None:
    """Another gate bound finds the output; another seed does not."""
    run, calls = counting()
    for override in ("gate.min_f1=0.7", "train.r=4", "seed=5"):
        run(config.load(overrides=[override]), Inputs(), store)
    assert calls == [17, 5]


def test_what_died_half_way_is_invisible_and_made_again(store: Store) -> None:
    """A stage that dies after writing a file leaves no output; the next call makes it whole."""

    def die(settings: Settings, inputs: Inputs, out: Output) -> Report:
        raise KeyboardInterrupt

    run, _ = counting(die)
    with pytest.raises(KeyboardInterrupt):
        run(SETTINGS, Inputs(), store)
    (entry,) = store.list("stages/")
    assert open_artifact(store, entry.key.removesuffix("/numbers.parquet")) is None
    whole, calls = counting()
    assert not whole(SETTINGS, Inputs(), store).found
    assert calls == [17]


def test_a_damaged_output_is_made_again(store: Store) -> None:
    """One flipped byte in a finished output's file and the stage runs again."""
    run, calls = counting()
    report = run(SETTINGS, Inputs(), store)
    key = f"{report.address}/numbers.parquet"
    data = bytearray(store.read(key))
    data[10] ^= 1
    store.write(key, bytes(data))
    run(SETTINGS, Inputs(), store)
    assert len(calls) == 2


def test_a_finished_failure_fails_again_at_once(store: Store) -> None:
    """An output that says the run can't go on is found with its words, and its files can be read."""

    def fail(settings: Settings, inputs: Inputs, out: Output) -> Report:
        return Report(Rows(incoming=2, quarantined=2, reasons={"quarantined: nulls": 2}), failure={"what": "40 % nulls"})

    run, calls = counting(fail)
    reports = [run(SETTINGS, Inputs(), store) for _ in range(2)]
    assert [report.failure for report in reports] == [{"what": "40 % nulls"}] * 2
    assert len(calls) == 1
    found = open_artifact(store, reports[0].address)
    assert found is not None
    assert found.table("numbers")["n"].to_list() == [1, 2]


def test_lost_rows_are_refused() -> None:
    """in + made = kept + quarantined + dropped, with a reason for every row not kept."""
    with pytest.raises(ProgramError, match="lost"):
        Rows(incoming=5, kept=4)
    with pytest.raises(ProgramError, match="reason"):
        Rows(incoming=5, kept=4, dropped=1)
    assert Rows(incoming=5, made=1, kept=4, dropped=2, reasons={"dropped: copy": 2}).as_json()["in"] == 6


def test_a_role_that_nothing_fills_is_named() -> None:
    """A body that asks for an input under a role without a stage gets an error that names the role."""
    with pytest.raises(ProgramError, match="the role 'mine'"):
        Inputs()["mine"]


def test_a_remote_file_that_is_not_its_manifests_is_refused(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download whose sha256 differs from the manifest raises, and stays in no cache."""
    monkeypatch.setenv("RELEVANCE_SCRATCH", str(tmp_path / "scratch"))
    run, _ = counting()
    report = run(SETTINGS, Inputs(), store)
    found = open_artifact(store, report.address)
    assert found is not None
    store.write(f"{report.address}/numbers.parquet", b"something else")
    remote: Callable[[object, str], Path | None] = lambda self, key: None  # noqa: E731 - a store that is not of this machine
    monkeypatch.setattr(type(store), "local_path", remote)
    for _ in range(2):
        with pytest.raises(StoreError, match="not what its manifest says"):
            found.table("numbers")


@pytest.mark.parametrize("killed", [True, False])
def test_a_cut_download_is_never_taken_for_the_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """A download that ends early, with its process or without an error, leaves no file: the next one reads the whole table."""
    run, _ = counting()
    found = open_artifact(store, run(SETTINGS, Inputs(), store).address)
    assert found is not None

    def cut(self: Store, key: str, path: Path) -> None:
        path.write_bytes(self.read(key)[:-1])
        if killed:
            raise KeyboardInterrupt

    monkeypatch.setenv("RELEVANCE_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(type(store), "local_path", lambda self, key: None)
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "download", cut)
        with pytest.raises(KeyboardInterrupt if killed else StoreError):
            found.table("numbers")
    assert found.table("numbers")["n"].to_list() == [1, 2]


def test_errors_keep_their_answers_across_processes() -> None:
    """An error that travelled between processes still knows what, where, expected and what to do."""
    error = ValidationFailed("positive rate 0.99", where="QC de", expected="<= 0.95", do="look at the log")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (type(again), str(again), again.where, again.do) == (ValidationFailed, str(error), "QC de", "look at the log")


def test_a_body_that_breaks_a_rule_is_named(store: Store) -> None:
    """A role that no step fills, a setting that does not exist, no return: ProgramError names the stage and the remedy."""
    run, _ = counting(lambda settings, inputs, out: inputs["pairs"])
    with pytest.raises(ProgramError, match=r"stage numbers asks for the role 'pairs', which no step fills; .*expected: no role"):
        run(SETTINGS, Inputs(stage="numbers"), store)
    run, _ = counting(lambda settings, inputs, out: [])
    with pytest.raises(ProgramError, match=r"the body of stage numbers returned .*; expected: a Report"):
        run(SETTINGS, Inputs(), store)
    for mistyped in ({"uses": ("train.epoch",)}, {"uses": (), "machine": ("engine.worker",)}):
        name = [*mistyped["uses"], *mistyped.get("machine", ())][0]
        with pytest.raises(ProgramError, match=f"stage numbers names the setting '{name}', which does not exist"):
            stage("numbers", **mistyped)(lambda *_: Report(Rows()))(SETTINGS, Inputs(), store)


def test_an_optional_setting_may_be_used_by_name(store: Store) -> None:
    """`train.tapt`, which is written only off its default, is part of the key all the same."""
    run = stage("numbers", uses=("train.tapt",))(lambda settings, inputs, out: Report(Rows()))
    off, on = config.build({}), config.build({"train": {"tapt": "other-task"}})
    assert run(off, Inputs(), store).address != run(on, Inputs(), store).address
