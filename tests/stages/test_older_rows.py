"""A night on a store that was made under text rule 1: sides stay, no pair doubles, people's decisions hold.

`tests/data/store_3edb264.tar.gz` holds two nights of `tests.support.older_shop`, as commit 3edb264 left them, with a person's
answers between them; that module made it. The night here has the same logs and a day more.
"""

from __future__ import annotations

import hashlib
import tarfile
import unicodedata
from datetime import date
from typing import Final

import polars as pl
import pytest

from relevance_core.pairs import Task, query_group
from relevance_core.registry import Registry
from relevance_core.runs import folder, review
from relevance_core.store import Store, open_store
from tests.support import older_shop
from tests.support.loop import forked
from tests.support.places import PROJECT

pytestmark = pytest.mark.slow

ARCHIVE: Final = PROJECT / "tests" / "data" / "store_3edb264.tar.gz"
TASKS: Final[tuple[Task, ...]] = ("QC", "QI")
TEXTS: Final = ("task", "language", "query_original", "target_original")


class Night:
    """The tables that a run left in a store."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id

    def table(self, stage: str, name: str, task: Task | None = None) -> pl.DataFrame:
        """A table of a stage's output, whether or not all of the output is there."""
        address = folder.read(self.store, self.run_id, folder.stage_record(stage, task))["address"]
        return pl.read_parquet(self.store.read(f"{address}/{name}.parquet"))

    def sides(self) -> pl.DataFrame:
        """The pairs as the log had them, each with its side (train, calibration or judgement)."""
        train, dev = self.table("split", "train"), self.table("split", "dev")
        placed = pl.concat([train.select("pair_id", side=pl.lit("train")), dev.select("pair_id", side="part")])
        return self.table("validate", "pairs").join(placed, on="pair_id", validate="1:1")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The old store after a night of today's."""
    work = tmp_path_factory.mktemp("older")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(work / "store", filter="data")
    shop = older_shop.write(work / "shop", 3)
    done = forked(*older_shop.arguments(work / "store", shop, older_shop.NEW))
    assert done.code == 0, done.log
    return open_store(str(work / "store"))


def night(store: Store, end: date) -> Night:
    """The store's night of that window end."""
    (run_id,) = [name for name in store.folders("runs/") if name.startswith(str(end))]
    return Night(store, run_id)


def of_rule_1(text: str) -> str:
    """A text of `older_shop` as rule 1 stored it."""
    return "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) not in ("Cc", "Cf"))


def test_no_query_changes_side(store: Store) -> None:
    """All 95 queries of the old store, as the log spells them, are where they were: in training, calibration or judgement."""

    def by_query(end: date) -> pl.DataFrame:
        return night(store, end).sides().group_by("query_original").agg(pl.col("side").unique())

    both = by_query(older_shop.NIGHTS[-1]).join(by_query(older_shop.NEW), on="query_original", how="left", suffix="_now")
    assert (both.height, both.filter(pl.col("side").ne_missing(pl.col("side_now"))).height) == (95, 0)
    assert both["side"].list.len().unique().to_list() == [1]


def test_no_pair_doubles(store: Store) -> None:
    """No pair of the new night is there twice, under an old id and a new one, or with the item 1001.0 and the item 1001."""
    new = night(store, older_shop.NEW)
    pairs = new.table("validate", "pairs")
    assert pairs.height > 700
    assert pairs.filter(pl.struct(TEXTS).is_duplicated() | pl.col("pair_id").is_duplicated()).is_empty()
    for task in TASKS:
        train = new.table("denoise", "train", task)
        assert train.filter(pl.struct("language", "query", "target").is_duplicated() | pl.col("pair_id").is_duplicated()).is_empty()


def test_what_people_decided_holds_once_for_each_pair(store: Store) -> None:
    """Every decision of the old store is found, has its pair's label, and is asked about no more; 9 were about mined negatives.

    Where rule 1 had made one text of `10² m` and `102 m`, the decision is that of the pair with the id that it was stored under,
    else of both.
    """
    first, new = night(store, older_shop.NIGHTS[0]), night(store, older_shop.NEW)
    ids: dict[tuple[str, ...], list[str]] = {}
    for pair_id, *texts, query, target in new.table("ingest", "pairs").unique("pair_id").select("pair_id", *TEXTS).iter_rows():
        ids.setdefault((*texts, of_rule_1(query), of_rule_1(target)), []).append(pair_id)
    trained = set(pl.concat(new.table("denoise", "train", task)["pair_id"] for task in TASKS))
    expected, gone, still = [], [], set()
    decided = review.decisions(store).select("pair_id", "label", "task", "language", "query", "target")
    for old, label, *texts in decided.iter_rows():
        found = ids.get(tuple(texts), [])
        expected += [(pair_id, label) for pair_id in ([old] if old in found else found)]
        gone += [] if found else [old]
        still |= {tuple(texts)} if old in trained else set()
    mined = pl.concat(first.table("denoise", "train", task) for task in TASKS).filter(origin="negative")
    assert set(gone) <= set(mined["pair_id"])
    reviewed = new.table("ingest", "reviewed")
    assert (decided.height, len(gone), reviewed.height) == (120, 9, 129)
    assert sorted(reviewed.select("pair_id", "label").iter_rows()) == sorted(expected)
    kept = new.table("validate", "pairs").join(reviewed, on="pair_id", suffix="_decided")
    assert (kept.height, kept.filter(pl.col("label") != pl.col("label_decided")).height) == (129, 0)
    asked = pl.concat(new.table("denoise", "ledger", task).select(pl.lit(task), "language", "query", "target") for task in TASKS)
    old_texts = {(*texts, of_rule_1(query), of_rule_1(target)) for *texts, query, target in asked.iter_rows()}
    assert len(old_texts) > 300
    assert old_texts & {tuple(texts) for _, _, *texts in decided.iter_rows()} <= still


@pytest.mark.parametrize("task", TASKS)
def test_the_champion_is_judged_on_no_row_that_it_trained_on(store: Store, task: Task) -> None:
    """No query that judges it tonight is among those that it was trained on: by group, by text, and as the log spells it."""
    new = night(store, older_shop.NEW)
    figures = folder.read(store, new.run_id, folder.stage_record("evaluate", task))["figures"]
    champion = Registry(store).manifest(task, figures["champion"]["version"])
    tables = (
        store.read(entry.key) for entry in store.list(f"stages/denoise-{task.lower()}/") if entry.key.endswith("train.parquet")
    )
    (data,) = [data for data in tables if hashlib.sha256(data).hexdigest() == champion.data["train"]]
    rows = pl.read_parquet(data)
    trained = rows["query"].unique().to_list()
    judged = new.table("evaluate", "scores", task).filter(part="judgement")
    assert (len(trained) > 60, judged.height > 40, judged["champion_p"].null_count()) == (True, True, 0)
    old, now = (night(store, end).table("validate", "pairs") for end in (older_shop.NIGHTS[-1], older_shop.NEW))
    logged = old.join(rows, on="pair_id", how="semi")["query_original"]
    assert len(logged) > 200
    assert set(logged).isdisjoint(now.join(judged, on="pair_id", how="semi")["query_original"])
    assert {query_group(query) for query in trained}.isdisjoint(judged["group"])
    assert {query.casefold() for query in trained}.isdisjoint(of_rule_1(query).casefold() for query in judged["query"])


def test_an_item_of_a_column_of_floats_is_a_whole_number(store: Store) -> None:
    """1001.0 of the old nights is 1001 of the new; people's decisions about it hold for it."""
    before, now = (night(store, end).table("validate", "pairs") for end in (older_shop.NIGHTS[-1], older_shop.NEW))
    assert "1001.0" in before["target_id"]
    assert {target for target in now.filter(task="QI")["target_id"] if len(target) < 16} == {f"{1000 + n}" for n in range(1, 8)}
    reviewed = now.join(night(store, older_shop.NEW).table("ingest", "reviewed"), on="pair_id", how="semi")
    assert reviewed.filter(target_id="1001").height == 4
