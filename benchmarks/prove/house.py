"""Two nights and a rollback of a small shop in a real Airflow: what the store then holds, and how two stores differ.

    python -m benchmarks.prove house --out DIR                 in each of two checkouts
    python -m benchmarks.prove.house OLD.json NEW.json         what differs; exit code 1 when a table or a weight does

A change that only moves code shows no difference at all. A change of settings or of the manifest's format shows other keys and
manifest fields, by name, and not one other table or weight.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.prove.cells import Evidence
from benchmarks.turns import PROJECT
from relevance_core.tools.demo.client import Client
from relevance_core.tools.demo.launcher import Airflow
from relevance_core.tools.simulator import market

log = logging.getLogger(__name__)

SHOP: Final = market.Market(pairs_per_day=400, clicks_per_day=400, items=400)
FIRST_DAY: Final = datetime.date(2026, 10, 1)
RETRAIN, ROLLBACK = "relevance_retrain", "relevance_rollback"
CELL: Final = "two nights and a rollback"
SECONDS: Final = 1800.0
"""How long a run may take."""

DATA: Final = (".parquet", ".safetensors")
"""The ends of files that hold rows or weights. The others are reports, and say which settings they came from."""


def evidence() -> Evidence:
    """Both tasks: a scheduled night, an onboarding of German by params, and a rollback of QC."""
    return Evidence(
        "two nights and a rollback in a real Airflow, and all that the store then holds",
        (SHOP.seed,),
        {CELL: nights},
        Path(__file__),
    )


def nights(work: Path) -> dict[str, Any]:
    """Runs them, and returns what the store holds."""
    variables = {
        "RELEVANCE_STORE": str(work / "store"),
        "RELEVANCE_SETTINGS": json.dumps(settings(shop())),
        "RELEVANCE_SCRATCH": str(work / "scratch"),
        "RELEVANCE_SCHEDULE": "30 2 7 10 *",
        "OMP_NUM_THREADS": "1",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "PYTHONPATH": str(PROJECT),
    }
    airflow = Airflow(work / "airflow", PROJECT, variables)
    try:
        client = airflow.start(0)
        client.await_dags((RETRAIN, ROLLBACK), SECONDS)
        client.set_pool("relevance_gpu", 2, "for the evidence")
        client.unpause(ROLLBACK)
        client.unpause(RETRAIN)
        _ended_well(client, RETRAIN, client.await_scheduled(RETRAIN, SECONDS))
        client.trigger(RETRAIN, "onboarding", {"window.end": "2026-10-08", "onboard": ["de"], "approval.hours": 0.02})
        _ended_well(client, RETRAIN, "onboarding")
        client.trigger(ROLLBACK, "back", {"task": "QC", "version": None, "why": "to prove the house"})
        _ended_well(client, ROLLBACK, "back")
    finally:
        airflow.stop()
    return held(work / "store")


def shop() -> Path:
    """The shop's logs, always under the same path on a machine: the keys of outputs hold it."""
    made = Path(tempfile.gettempdir()) / f"relevance-shop-{hashlib.sha256(json.dumps(asdict(SHOP)).encode()).hexdigest()[:12]}"
    if not made.exists():
        partial = Path(tempfile.mkdtemp(prefix="relevance-shop-"))
        market.write(SHOP, FIRST_DAY, 8, partial)
        try:
            partial.rename(made)
        except OSError:  # another process was faster, with the same bytes
            shutil.rmtree(partial)
    return made


def settings(logs: Path) -> dict[str, Any]:
    """A base and a training that take seconds, gates that let everything through, no server."""
    tiny = {"hidden": 64, "layers": 1, "vocabulary": 1024, "contrastive_steps": 20, "documents": 400}
    return {
        "source": {"uri": str(logs / "logs")},
        "validation": {"rate_min_rows": 10_000, "max_language_drift": 1.0},
        "translate": {"min_rows": 20, "rows": {"QC": 200, "QI": 200}},
        "base": {"builtin": tiny},
        "denoise": {"enabled": True, "epochs": 1},
        "train": {"epochs": 1, "r": 4, "alpha": 8, "save_steps": 2},
        "gate": {
            "min_f1": 0.0,
            "min_over_always_yes": -1.0,
            "resamples": 100,
            "confidence": 0.0,
            "min_gain": -1.0,
            "max_language_loss": 1.0,
            "min_evidence_rows": 1,
        },
        "approval": {"hours": 0.02},
        "serving": {"python": "", "mixed_bases": True},
        "engine": {"workers": 1},
    }


def _ended_well(client: Client, dag: str, run: str) -> None:
    state = client.await_run(dag, run, SECONDS)
    log.info("%s %s: %s", dag, run, state)
    if state != "success":
        raise RuntimeError(f"{dag} {run} failed")


def held(store: Path) -> dict[str, Any]:
    """Every output, version, release and record of a store that is a folder."""
    found: dict[str, dict[str, Any]] = {"stages": {}, "versions": {}, "releases": {}, "runs": {}}
    for path in sorted(store.glob("stages/*/*/manifest.json")):
        about = json.loads(path.read_text())
        files = {name: file["sha256"] for name, file in sorted(about["files"].items())}
        found["stages"][str(path.parent.relative_to(store))] = {"digest": about["digest"], "files": files}
    for path in sorted(store.glob("adapters/*/*/manifest.json")):
        found["versions"][str(path.parent.relative_to(store))] = {"manifest": json.loads(path.read_text())}
    for path in sorted(store.glob("aliases/champion/*.json")):
        entry = json.loads(path.read_text())
        entry.pop("at", None)
        found["releases"][path.name] = entry
    for path in sorted(store.glob("runs/*/*.json")):
        found["runs"][str(path.relative_to(store))] = json.loads(path.read_text())
    return found


@dataclass
class Differences:
    """What of two stores is not the same, by what it means; a line each."""

    data: list[str] = field(default_factory=list)
    """Outputs and versions with the names of their tables and weights that differ, or are in one store alone."""
    reports: list[str] = field(default_factory=list)
    """Outputs and versions with the names of their other files."""
    keys: list[str] = field(default_factory=list)
    manifest: dict[str, int] = field(default_factory=dict)
    """Fields of the versions' manifests, and in how many of the versions they differ."""
    releases: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """What a person reads."""
        for title, found in (
            ("tables and weights that differ", self.data),
            ("reports that differ", self.reports),
            ("keys that differ", self.keys),
            ("manifest fields that differ", [f"{name} in {count} versions" for name, count in sorted(self.manifest.items())]),
            ("releases that differ", self.releases),
        ):
            yield f"{title}: {len(found)}"
            yield from (f"  {line}" for line in found)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Differences:
    """Compares what `held` returned of two stores: outputs by night and stage, versions by task and age, releases by number."""
    found = Differences()
    before, after = _outputs(old), _outputs(new)
    for place in sorted({*before, *after}):
        if place not in before or place not in after:
            found.data.append(f"{place}: only in the {'old' if place in before else 'new'} store")
            continue
        (key, files), (other_key, other_files) = before[place], after[place]
        if key != other_key:
            found.keys.append(f"{place}: {key} → {other_key}")
        _compare_files(found, place, files, other_files)
    manifests, others = _manifests(old), _manifests(new)
    for place in sorted({*manifests, *others}):
        if place not in manifests or place not in others:
            found.data.append(f"{place}: only in the {'old' if place in manifests else 'new'} store")
            continue
        (name, manifest), (other_name, other) = manifests[place], others[place]
        if name != other_name:
            found.keys.append(f"{place}: {name} → {other_name}")
        files, other_files = ({file: about["sha256"] for file, about in one.get("files", {}).items()} for one in (manifest, other))
        _compare_files(found, place, files, other_files)
        for field_name in _differing({**manifest, "files": None}, {**other, "files": None}):
            found.manifest[field_name] = found.manifest.get(field_name, 0) + 1
    for number in sorted({*old["releases"], *new["releases"]}):
        entry, other = old["releases"].get(number), new["releases"].get(number)
        if entry != other:
            found.releases.append(f"{number}: {', '.join(_differing(entry or {}, other or {}))}")
    return found


def _outputs(store: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, str]]]:
    """`night 1 mine-qc` → (key, digests of its files), as the runs' records refer to them; the nights in order of their ids."""
    runs = sorted({path.split("/")[1] for path in store["runs"]})
    found = {}
    for path, record in store["runs"].items():
        _, run, name = path.split("/")
        address = record.get("address") if isinstance(record, dict) else None
        if address:
            place = f"night {runs.index(run) + 1} {name.removesuffix('.json')}"
            found[place] = address.rpartition("/")[2], store["stages"][address]["files"]
    return found


def _manifests(store: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """`qc version 1` → (its name in the store, its manifest), the oldest first."""
    by_task: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, about in store["versions"].items():
        _, task, version = path.split("/")
        by_task.setdefault(task, []).append((about["manifest"]["created"], version, about["manifest"]))
    return {
        f"{task} version {number}": (version, manifest)
        for task, versions in by_task.items()
        for number, (_, version, manifest) in enumerate(sorted(versions, key=lambda one: one[:2]), start=1)
    }


def _compare_files(found: Differences, place: str, files: Mapping[str, str], other: Mapping[str, str]) -> None:
    names = [name for name in sorted({*files, *other}) if files.get(name) != other.get(name)]
    for into, some in (
        (found.data, [name for name in names if name.endswith(DATA)]),
        (found.reports, [name for name in names if not name.endswith(DATA)]),
    ):
        if some:
            into.append(f"{place}: {', '.join(some)}")


def _differing(old: Any, new: Any, prefix: str = "") -> list[str]:
    """The dotted names of the fields that differ; lists are compared as wholes."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [prefix]
    missing = object()
    names = sorted({*old, *new})
    return [
        name
        for key in names
        for name in _differing(old.get(key, missing), new.get(key, missing), f"{prefix}.{key}" if prefix else key)
    ]


def read(path: Path) -> dict[str, Any]:
    """What `held` returned, from an evidence's file or as it is."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content["cells"][CELL]["result"] if "cells" in content else content


def main() -> int:
    """Compares two files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prove.house", description="Lists what differs between two stores.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    found = differences(read(options.old), read(options.new))
    print("\n".join(found.lines()))
    return 1 if found.data else 0


if __name__ == "__main__":
    sys.exit(main())
