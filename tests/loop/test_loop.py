"""The loop whole, by its command line, on a small simulated shop."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import polars as pl
import pytest

from relevance_core.runs.steps import COMMON, PER_TASK, TOGETHER
from tests.support.loop import Done, fork, relevance, retrain, retrain_arguments, small_shop

pytestmark = pytest.mark.slow

LONG = ("ingest", "validate", "base", "denoise QC", "train QC")
GOOD = (
    "base.builtin.documents=6000",
    "base.builtin.contrastive_steps=300",
    "base.builtin.hidden=128",
    "base.builtin.vocabulary=2560",
    "denoise.enabled=false",
    "gate.min_over_always_yes=0.01",
)
"""Settings of a model that has something to lose, in a minute or so."""
FIRST_NIGHT, SECOND_NIGHT = "2026-10-04", "2026-10-05"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days of a small market."""
    return small_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def night(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The store after the first night, on two processes, and what the command said."""
    folder = tmp_path_factory.mktemp("night") / "store"
    done = relevance(*retrain_arguments(folder, shop, FIRST_NIGHT, "--set", "engine.workers=2"))
    assert done.code == 0, done.log
    return folder, done


def versions(done: Done) -> dict[str, str]:
    return {task: figures["version"] for task, figures in done.result["tasks"].items()}


def test_a_night_publishes_both_tasks(night: tuple[Path, Done]) -> None:
    """The first night gives each task a version with its figures, and the champion alias names them."""
    folder, done = night
    assert set(done.result["tasks"]) == {"QC", "QI"}
    for figures in done.result["tasks"].values():
        assert figures["verdict"] == "publish"
        assert {"f1", "auc", "macro_f1", "always_yes_f1", "per_language"} <= set(figures)
        assert {"f1", "auc", "rows"} <= set(figures["per_language"]["en"])
    for task, version in versions(done).items():
        assert relevance("registry", "verify", task, version, "--store", str(folder), "--json").code == 0


def test_no_row_is_lost_in_any_stage(night: tuple[Path, Done]) -> None:
    """in = kept + quarantined + dropped in every stage, and each stage takes in what the one before it kept."""
    rows = night[1].result["rows"]
    assert set(rows) == {*COMMON, *PER_TASK, *TOGETHER}
    for stage, row in rows.items():
        assert row["in"] == row["kept"] + row["quarantined"] + row["dropped"], stage
    for before, after in (
        ("ingest", "validate"),
        ("validate", "split"),
        ("split", "translate"),
        ("mine", "denoise"),
        ("denoise", "train"),
    ):
        assert rows[after]["in"] - rows[after]["made"] == rows[before]["kept"], after


def test_the_same_inputs_find_finished_work(night: tuple[Path, Done], shop: Path) -> None:
    """The same command again ends with the same versions, runs no stage, and takes a fraction of the time."""
    folder, first = night
    again = retrain(folder, shop, FIRST_NIGHT)
    assert (again.code, versions(again)) == (0, versions(first))
    assert ": started" not in again.log
    assert again.result["seconds"] < first.result["seconds"] / 3


def test_a_night_with_strategies_that_are_off_by_default(night: tuple[Path, Done], shop: Path, tmp_path: Path) -> None:
    """A first training on the other task: what comes before it is found, no row is lost, and both tasks have it."""
    folder = Path(shutil.copytree(night[0], tmp_path / "store"))
    done = retrain(folder, shop, FIRST_NIGHT, "--set", "train.tapt=other-task")
    assert done.code == 0, done.log
    assert "mine QC: found finished output" in done.log
    rows = done.result["rows"]
    assert all(row["in"] == row["kept"] + row["quarantined"] + row["dropped"] for row in rows.values())
    assert set(done.result["tasks"]) == {"QC", "QI"}
    for task in done.result["tasks"]:
        assert f"train {task} other-task: training on" in done.log


def test_a_run_killed_in_every_stage_ends_with_the_same_version(night: tuple[Path, Done], shop: Path, tmp_path: Path) -> None:
    """SIGKILL in each stage in turn, and the command started again: the same versions as the undisturbed run on two processes."""
    arguments = retrain_arguments(tmp_path / "store", shop, FIRST_NIGHT)
    stages = [*COMMON, *(f"{stage} QC" for stage in PER_TASK), *TOGETHER]
    killed = [stage for stage in stages if kill_in(stage, arguments, tmp_path / "log")]
    # A stage of a few milliseconds may be over when the signal of the one before it arrives; no other is left out.
    assert set(stages) - set(killed) <= {"split", "gate QC", "publish QC", "rollout"}
    last = retrain(tmp_path / "store", shop, FIRST_NIGHT)
    assert last.code == 0, last.log
    assert versions(last) == versions(night[1])


def kill_in(stage: str, arguments: list[str], log: Path) -> bool:
    """Runs the command until it says that the stage has started, then kills it and every process it started."""
    process = fork(arguments, log.with_suffix(".out"), log)
    while f"{stage}: started" not in log.read_text():
        if f"{stage}: found" in log.read_text():
            break
        assert process.exitcode is None, f"ended before {stage!r}: {log.read_text()}"
        time.sleep(0.01)
    started = f"{stage}: started" in log.read_text()
    time.sleep(0.2 if stage in LONG else 0)
    os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()
    return started


def spoiled(shop: Path, folder: Path, day: pl.DataFrame) -> Path:
    """The shop with one more day, whose log is `day`."""
    shutil.copytree(shop, folder)
    (folder / "logs" / "dt=2026-10-04").mkdir(exist_ok=True)
    day.write_parquet(folder / "logs" / "dt=2026-10-04" / "part-0.parquet")
    return folder


def fresh_day(shop: Path) -> pl.DataFrame:
    return pl.read_parquet(shop / "logs" / "dt=2026-10-04" / "part-0.parquet")


def test_shuffled_labels_in_the_fresh_window_hold(shop: Path, tmp_path: Path) -> None:
    """A night whose fresh labels are noise does not replace a champion that beats always-yes."""
    good = [part for setting in GOOD for part in ("--set", setting)]
    first = retrain(tmp_path / "store", shop, FIRST_NIGHT, "--tasks", "QC", *good)
    assert first.result["tasks"]["QC"]["verdict"] == "publish", first.log
    assert first.result["tasks"]["QC"]["f1"] > first.result["tasks"]["QC"]["always_yes_f1"] + 0.05
    day = fresh_day(shop)
    noise = day.with_columns(pl.col("label").shuffle(seed=1))
    done = retrain(tmp_path / "store", spoiled(shop, tmp_path / "shop", noise), SECOND_NIGHT, "--tasks", "QC", *good)
    assert done.code == 0, done.log
    assert done.result["tasks"]["QC"]["verdict"] == "hold"
    assert done.result["tasks"]["QC"]["why"]
    (rows,) = relevance("registry", "list", "--store", str(tmp_path / "store"), "--json").result["tasks"].values()
    assert [row["version"] for row in rows if row["champion"]] == [versions(first)["QC"]]


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (lambda day: day.drop("label"), "label"),
        (lambda day: day.clear(), "row"),
        (lambda day: day.with_columns(query=pl.when(pl.int_range(pl.len()) % 5 < 2).then(None).otherwise("query")), "null"),
        (
            lambda day: day.with_columns(label=pl.when(pl.int_range(pl.len()) % 100 == 0).then(0).otherwise(1).cast(pl.Int8)),
            "positive",
        ),
    ],
    ids=["missing column", "no rows", "40 % nulls", "99 % positive"],
)
def test_bad_input_stops_at_validate(spoil, rule: str, shop: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The run ends with status 65, the rule and what to do; rows that fail are in the quarantine; the report is there."""
    day = fresh_day(shop)
    done = retrain(tmp_path / "store", spoiled(shop, tmp_path / "shop", spoil(day)), SECOND_NIGHT)
    assert done.code == 65, done.log
    message = done.log.splitlines()[-1]
    assert rule in message.lower()
    assert "what to do" in message
    assert not list((tmp_path / "store").glob("stages/split/*"))
    assert list((tmp_path / "store").glob("stages/validate/*/quarantine.parquet"))
    assert list((tmp_path / "store").glob("stages/report/*/report.html"))
