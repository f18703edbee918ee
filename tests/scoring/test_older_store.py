"""A store that the release before this manifest's format wrote: read, listed, verified, scored, served and shown as what it is.

`tests/data/store_8fc7c25.tar.gz` holds what commit 8fc7c25 left of two nights on a small simulated shop, both tasks, with a base of
one layer and the translation in the prompt: every version, release and run record, the base, the translator, the second night's
outputs from *evaluate* on, and one language of the translation memory. Nothing in it is to be made anew.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient
from starlette.types import Scope

from relevance_core.cli import main
from relevance_core.config import build
from relevance_core.pairs import Task
from relevance_core.registry import AdapterMeta, Manifest, Registry, golden
from relevance_core.registry.adapter_files import MANIFEST
from relevance_core.registry.versions import file_key
from relevance_core.scoring.opened import open_version, trainers
from relevance_core.serving.client import ScoringClient
from relevance_core.serving.prompts import Pair, open_prompts
from relevance_core.serving.rollout import roll_out
from relevance_core.store import Store, open_store
from relevance_core.ui.access import Right, User
from relevance_core.ui.app import create_app
from tests.support.places import PROJECT
from tests.support.stand_in import StandIn, expected

ARCHIVE = PROJECT / "tests" / "data" / "store_8fc7c25.tar.gz"
SETTINGS = build({"engine": {"device": "cpu"}, "serving": {"python": "", "drain_seconds": 0}, "window": {"end": "2026-10-05"}})
TASKS: tuple[Task, ...] = ("QC", "QI")


class Anybody:
    """Lets everybody see the pages."""

    async def user(self, scope: Scope) -> User:
        return User("ada")

    def may(self, user: User, right: Right) -> bool:
        return right == "read"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return open_store(str(tmp_path / "old"))


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


def test_every_version_is_listed_verified_and_kept_as_it_was_written(
    registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two versions of each task, of format 1: no dtype, nothing required; what would be written again are the very bytes."""
    assert main(["registry", "list", "--store", registry.store.uri, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {task: [row["problem"] for row in rows] for task, rows in listed["tasks"].items()} == {"QC": ["", ""], "QI": ["", ""]}
    assert main(["registry", "verify", "--store", registry.store.uri]) == 0
    for manifest in (version for task in TASKS for version in registry.versions(task)):
        assert (manifest.format, manifest.dtype, manifest.requires, manifest.base.digest) == (1, None, (), "")
        assert manifest.to_bytes() == registry.store.read(file_key(manifest, MANIFEST))
    assert [release.number for release in registry.history()] == [1, 2]


@pytest.mark.parametrize("task", TASKS)
def test_a_version_scores_as_it_did(registry: Registry, task: Task) -> None:
    """Base, prompt, translator and adapter come together as when it was trained: the golden pairs have their p(yes) to a digit."""
    champion = registry.resolve(task, "champion")
    pairs = golden.load(registry, champion)
    opened = open_version(registry.store, champion, trainers(SETTINGS))
    found = opened.scorer.score_ids([list(ids) for ids in pairs.prompts])
    assert (len(found), len(pairs.texts), opened.scorer.dtype) == (32, 32, "float32")
    assert np.abs(found - pairs.p).max() < 1e-5


def test_a_labelled_file_is_evaluated_by_the_champion(
    registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`relevance evaluate` needs nothing of the store that this release would have written otherwise."""
    rows = [("zapatos rojos", "Sports > Shoes", 1), ("zapatos rojos", "Home > Kitchen", 0)]
    frame = pl.DataFrame(rows, schema=["query", "category_path", "label"], orient="row")
    frame.with_columns(task=pl.lit("QC"), language=pl.lit("es")).write_csv(tmp_path / "rows.csv")
    arguments = ["--store", registry.store.uri, "--task", "QC", "--data", str(tmp_path / "rows.csv"), "--json"]
    assert main(["evaluate", *arguments, "--set", "engine.device=cpu"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (figures["rows"], figures["role"], figures["version"]) == (2, "champion", registry.resolve("QC", "champion").version)


def test_the_client_asks_for_it_by_its_own_prompts(registry: Registry) -> None:
    """A server of its base answers the champion's name, with the English of the store's own memory and glossary in the prompt."""
    champion = registry.resolve("QC", "champion")
    pairs = [Pair("es", "zapatos rojos", "Sports > Shoes"), Pair("en", "red shoes", "Sports > Shoes")]
    prompts = open_prompts(registry.store, "QC", champion.version, None).encode(pairs)
    running = StandIn(champion.base.label).start()
    try:
        with ScoringClient(registry.store, [running.url]) as client:
            scores = client.score("QC", pairs)
    finally:
        running.stop()
    assert scores.version == champion.version
    assert scores.p.tolist() == pytest.approx([expected(champion.name, ids) for ids in prompts])


def test_it_is_rolled_back(registry: Registry) -> None:
    """The versions of the first release are proved by their golden pairs, and serve again as release 3."""
    older = registry.older()
    release, proofs = roll_out(registry, older.versions, lambda: registry.restore(older, who="ada", why="a test"), SETTINGS)
    assert (release.number, release.versions) == (3, registry.release(1).versions)
    assert [(proof.pairs, proof.tolerance) for proof in proofs] == [(32, 1e-3)] * 2


def test_what_is_trained_as_before_has_the_id_that_it_had(registry: Registry, tmp_path: Path) -> None:
    """Published again with float32 and its base's digest stated, the same adapter is the version that is there."""
    champion = registry.resolve("QC", "champion")
    folder = registry.fetch("QC", champion.version, tmp_path / "fetched")
    (folder / MANIFEST).unlink()
    again = registry.publish("QC", folder, restated(champion, dtype="float32", digest="d" * 64))
    assert again == champion
    assert registry.publish("QC", folder, restated(champion, dtype="bfloat16")).version != champion.version


def restated(manifest: Manifest, dtype: str, digest: str = "") -> AdapterMeta:
    """What this release would state about a version."""
    values: dict[str, Any] = {name: value for name, value in manifest.to_json().items() if name in AdapterMeta.model_fields}
    return AdapterMeta.model_validate(values | {"dtype": dtype, "base": values["base"] | {"digest": digest}})


def test_the_pages_show_it(store: Store) -> None:
    """Overview and run page of the second night, whose settings may have been removed since: its verdicts and its release."""
    client = TestClient(create_app(lambda: store, Anybody()))
    (run_id,) = [name for name in store.folders("runs/") if name.startswith("2026-10-04")]
    overview, run = client.get("/"), client.get(f"/run/{run_id}")
    assert (overview.status_code, run.status_code) == (200, 200)
    assert "serves since release 2" in overview.text
    assert Registry(store).resolve("QC", "champion").version in run.text
