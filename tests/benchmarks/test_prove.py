"""Long evidence: cells that go on where they broke off, and the comparison of two stores, by hand-made ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.prove import door
from benchmarks.prove.__main__ import EVIDENCE, main
from benchmarks.prove.cells import Evidence, prove
from benchmarks.prove.house import Differences, differences, read


def test_an_evidence_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    """The second of three cells fails: the others are kept, and the next call runs it alone; other code runs all."""
    asked: list[str] = []
    broken = True

    def cell(name: str) -> Any:
        def run(work: Path) -> dict[str, int]:
            assert list(work.iterdir()) == []
            asked.append(name)
            if broken and name == "b":
                raise ValueError("no luck")
            return {"rows": len(asked)}

        return run

    code = tmp_path / "cells.py"
    code.write_text("one")
    evidence = Evidence("three cells", (17, 18), {name: cell(name) for name in "abc"}, code)
    assert prove("three", evidence, tmp_path) == ["b"]
    broken = False
    assert prove("three", evidence, tmp_path) == []
    assert asked == ["a", "b", "c", "b"]
    cells = json.loads((tmp_path / "three.json").read_text())["cells"]
    assert {name: about["result"] for name, about in cells.items()} == {"a": {"rows": 1}, "b": {"rows": 4}, "c": {"rows": 3}}
    assert all(about["seeds"] == [17, 18] and about["commit"] and "cores" in about["machine"] for about in cells.values())
    assert prove("three", evidence, tmp_path, again=True) == []
    assert asked[4:] == ["a", "b", "c"]
    code.write_text("two")
    assert prove("three", evidence, tmp_path) == []
    assert asked[7:] == ["a", "b", "c"]
    assert prove("three", evidence, tmp_path) == []
    assert asked[10:] == []


def test_the_evidence_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name every evidence is listed with its sentence; a name that is none is refused."""
    assert main([]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == sorted(EVIDENCE)
    with pytest.raises(SystemExit, match="2"):
        main(["nonsense"])


def test_the_door_is_judged_by_every_seed_once() -> None:
    """20 cells in-process hold the seeds 0 to 9999; 10 through the command hold every fiftieth of them."""
    cells = list(door.plan().values())
    told = [seed for ask, seeds in cells if ask == "in-process" for seed in seeds]
    commanded = [seed for ask, seeds in cells if ask == "command" for seed in seeds]
    assert told == list(range(10_000))
    assert commanded == list(range(0, 10_000, 50))
    assert [ask for ask, _ in cells] == ["in-process"] * 20 + ["command"] * 10
    assert list(door.evidence().cells) == list(door.plan())


def store(key: str = "k1", table: str = "t1", weights: str = "w1", **manifest: Any) -> dict[str, Any]:
    """A store with an output, a version and a release; its run's id and its version's name follow the key."""
    files = {"train.parquet": table, "about.json": key}
    about = {
        "created": "2026-10-07",
        "base": {"id": "tiny"},
        "files": {"adapter_model.safetensors": {"sha256": weights}},
    } | manifest
    return {
        "stages": {f"stages/mine-qc/{key}": {"digest": "d", "files": files}},
        "runs": {
            f"runs/2026-10-07-{key}/mine-qc.json": {"address": f"stages/mine-qc/{key}"},
            f"runs/2026-10-07-{key}/run.json": {},
        },
        "versions": {f"adapters/qc/v-{key}": {"manifest": about}},
        "releases": {"00000001.json": {"versions": {"QC": f"v-{key}"}}},
    }


def test_a_store_is_like_itself() -> None:
    """Nothing differs."""
    assert differences(store(), store()) == Differences()


def test_another_key_is_no_other_table() -> None:
    """Output, version and release have other names; the report with the key in it differs, and rows and weights do not."""
    assert differences(store(), store("k2")) == Differences(
        reports=["night 1 mine-qc: about.json"],
        keys=["night 1 mine-qc: k1 → k2", "qc version 1: v-k1 → v-k2"],
        releases=["00000001.json: versions.QC"],
    )


def test_what_differs_is_named() -> None:
    """A table, a weight, a manifest field that changed, and two that came in."""
    new = store(table="t2", weights="w2", base={"id": "tiny", "digest": "d"}, dtype="float32", created="2026-10-08")
    assert differences(store(), new) == Differences(
        data=["night 1 mine-qc: train.parquet", "qc version 1: adapter_model.safetensors"],
        manifest={"base.digest": 1, "created": 1, "dtype": 1},
    )


def test_what_one_store_lacks_is_a_difference() -> None:
    """An output, a version and a release that only one of the stores has."""
    lacking = {"stages": {}, "runs": {}, "versions": {}, "releases": {}}
    assert differences(lacking, store()) == Differences(
        data=["night 1 mine-qc: only in the new store", "qc version 1: only in the new store"],
        releases=["00000001.json: versions"],
    )


def test_both_kinds_of_files_are_read(tmp_path: Path) -> None:
    """An evidence's file, and a store's content alone."""
    (tmp_path / "alone.json").write_text(json.dumps(store()))
    (tmp_path / "kept.json").write_text(json.dumps({"cells": {"two nights and a rollback": {"result": store()}}}))
    assert read(tmp_path / "alone.json") == read(tmp_path / "kept.json") == store()
