"""What *evaluate* measures, and that any published version is scored with its own base, prompt, translator and threshold."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from relevance_core import pairs
from relevance_core.config import Settings, build
from relevance_core.errors import DataError, NotFound, SettingsError
from relevance_core.metrics import measure
from relevance_core.prompts import prompt_from
from relevance_core.registry import AdapterMeta, BaseInfo, Manifest, PromptInfo, Registry
from relevance_core.registry.manifest import LoraInfo
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.stages.evaluate import ScoreRows, evaluate_file, judge, run, score_file, score_with
from relevance_core.stages.publish import prompt_info
from relevance_core.store import Store, open_store
from relevance_core.translators import GlossaryTranslator, Term, add_english, save

BASE_ID = "builtin:tiny@0123"
HERE = Settings(engine={"threads": 1, "device": "cpu"})
GLOSSARY = GlossaryTranslator(
    (Term("1", "en", "shoes"), Term("1", "de", "schuhe"), Term("2", "en", "coat"), Term("2", "de", "mantel"))
)


def manifest(**changes: Any) -> Manifest:
    fields = {
        "base": BaseInfo(id="tiny"),
        "prompt": PromptInfo(name="compact", version="1"),
        "threshold": 0.5,
        "languages": ("en",),
    }
    meta = AdapterMeta.model_validate(fields | {"created": "2026-10-07"} | changes)
    return Manifest.build("QC", {}, LoraInfo(r=2, alpha=4, targets=("q_proj",)), meta)


def scored(
    part: str, label: list[int], p: list[float], champion_p: list[float] | None = None, language: str = "en"
) -> pl.DataFrame:
    rows = len(label)
    return pl.DataFrame(
        {
            "part": [part] * rows,
            "label": label,
            "language": [language] * rows,
            "group": [f"{part}{n}" for n in range(rows)],
            "p": p,
            "champion_p": champion_p or [None] * rows,
        },
        schema_overrides={"champion_p": pl.Float64},
    )


def test_the_threshold_comes_from_calibration_and_the_figures_from_judgement() -> None:
    """Calibration is perfect at 0.8 and judgement only at 0.3: the threshold is 0.701, and one judgement row of two is missed."""
    calibration = scored("calibration", [1, 0], [0.9, 0.7])
    metrics = judge(pl.concat([calibration, scored("judgement", [1, 1, 0], [0.9, 0.4, 0.2])]), None, seed=1)
    assert metrics["threshold"] == 0.701
    assert (metrics["precision"], metrics["recall"], metrics["rows"]) == (1.0, 0.5, 3)
    changed = judge(pl.concat([calibration, scored("judgement", [0, 0, 1], [0.9, 0.4, 0.2])]), None, seed=1)
    assert changed["threshold"] == metrics["threshold"]


def test_the_champion_is_measured_on_the_same_rows_at_its_own_threshold() -> None:
    """The champion's scores lie around its threshold of 0.2: at 0.5 it would find nothing, at its own it is perfect."""
    calibration = scored("calibration", [1, 0], [0.9, 0.1], [0.3, 0.1])
    rows = pl.concat([calibration, scored("judgement", [1, 0], [0.9, 0.1], [0.3, 0.1], "de")])
    metrics = judge(rows, manifest(threshold=0.2), seed=1)
    assert metrics["champion"]["f1"] == 1.0
    assert metrics["champion"]["threshold"] == 0.2
    assert metrics["champion"]["languages"] == ["en"]
    assert set(metrics["champion"]["per_language"]) == set(metrics["per_language"]) == {"de"}


def test_every_f1_has_an_interval_around_it() -> None:
    """Overall, by language and of the champion: low <= F1 <= high, and all of it can be written as JSON."""
    random = np.random.default_rng(1)
    label = (random.random(60) < 0.6).astype(int).tolist()
    p = [random.random(60).tolist() for _ in range(2)]
    metrics = judge(pl.concat([scored(part, label, *p) for part in ("calibration", "judgement")]), manifest(), seed=1)
    for figures in (metrics, metrics["champion"], metrics["per_language"]["en"], metrics["champion"]["per_language"]["en"]):
        assert figures["f1_low"] <= figures["f1"] <= figures["f1_high"]
    assert json.loads(json.dumps(metrics)) == metrics


@pytest.mark.parametrize(("part", "message"), [("judgement", "no calibration rows"), ("calibration", "no rows to measure")])
def test_a_part_of_dev_without_rows_is_an_error(part: str, message: str) -> None:
    """Nothing is measured where one of the two parts is missing."""
    with pytest.raises(DataError, match=message):
        judge(scored(part, [1, 0], [0.9, 0.1]), None, seed=1)


# From here on a random base of hidden size 32 and random adapters: what is tested is who is scored with what, not how well.

SETTINGS = build(
    {"window": {"end": "2026-10-08"}, "prompt": {"translation": True, "max_tokens": 128}, "engine": {"threads": 1, "device": "cpu"}}
)


def dev_rows() -> pl.DataFrame:
    """Forty dev rows of two tasks and two languages, with their English."""
    queries = [("en", "red shoes"), ("de", "blauer mantel"), ("de", "schuhe"), ("en", "steel bottle")]
    now = datetime.datetime(2026, 10, 7, tzinfo=datetime.UTC)
    rows = [
        {
            "task": "QC" if n % 5 else "QI",
            "language": queries[n % 4][0],
            "query": f"{queries[n % 4][1]} {n}",
            "target": f"Sports > Shoes {n % 3}",
            "target_id": str(n % 3),
            "label": n % 2,
            "event_time": now,
            "origin": "log",
            "part": "calibration" if n % 8 < 3 else "judgement",
        }
        for n in range(40)
    ]
    frame = pairs.with_groups(
        pairs.with_ids(pl.DataFrame(rows).with_columns(pair_id=pl.lit(""), label=pl.col("label").cast(pl.Int8)))
    )
    return frame


def output(store: Store, name: str, write: Any, task: pairs.Task | None = None) -> Artifact:
    made = stage(name, uses=())(lambda settings, inputs, out: write(out) or Report(Rows()))
    found = open_artifact(store, made(Settings(), Inputs(task=task), store).address)
    assert found is not None
    return found


class Shop:
    """A store with the outputs of the stages before *evaluate*, and the folders that they were made from."""

    def __init__(self, folder: Path) -> None:
        from tests.support.models_fixture import random_adapter, save_base

        self.folder, self.store = folder, open_store(str(folder / "store"))
        self.base_folder = save_base(folder / "base")
        self.adapter = random_adapter(folder / "new", self.base_folder, BASE_ID, seed=2)
        self.translator = save(GLOSSARY, self.store)
        self.dev = add_english(dev_rows(), GLOSSARY, self.store)
        self.translate = output(self.store, "translate", lambda out: self._translate(out))
        self.base = output(self.store, "base", self._base)
        self.train = output(self.store, "train", self._train, "QC")
        self.info = BaseInfo(id=BASE_ID, revision="0123", uri=self.base.address)

    def _translate(self, out: Output) -> Report:
        out.table("dev", self.dev)
        return Report(Rows(), {"translator": self.translator})

    def _train(self, out: Output) -> None:
        out.folder("adapter", self.adapter)
        out.json("training", {"dtype": "float32"})

    def _base(self, out: Output) -> None:
        out.folder("model", self.base_folder)
        out.json("base", {"id": BASE_ID, "model": "builtin:tiny", "revision": "0123", "address": out.address, "folds": 0})

    def inputs(self, champion: dict[str, str]) -> Inputs:
        return Inputs({"base": self.base, "adapter": self.train, "dev": self.translate}, "QC", champion)

    def publish(self, adapter: Path, **changes: Any) -> Manifest:
        """Publishes an adapter under the settings' prompt."""
        fields = {
            "base": self.info,
            "prompt": prompt_info(prompt_from(SETTINGS), self.translate),
            "threshold": 0.5,
            "languages": ("en",),
            "created": "2026-10-07T00:00:00+00:00",
        }
        return Registry(self.store).publish("QC", adapter, AdapterMeta.model_validate(fields | changes))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def old(shop: Shop) -> Manifest:
    """A version of another adapter on the same base, by the same prompt; nobody has promoted it."""
    from tests.support.models_fixture import random_adapter

    return shop.publish(random_adapter(shop.folder / "old", shop.base_folder, BASE_ID, seed=3), threshold=0.4)


def here(shop: Shop) -> ScoreRows:
    """Scores rows with this process's own torch."""
    return lambda version, rows: score_with(shop.store, version, rows, HERE)


def labelled_file(shop: Shop, name: str = "data.csv") -> Path:
    """The dev rows as somebody else's file."""
    path = shop.folder / name
    shop.dev.select("task", "language", "query", "target", "label").write_csv(path)
    return path


@pytest.mark.slow
def test_every_dev_row_of_the_task_is_scored_once(shop: Shop, old: Manifest) -> None:
    """Rows in are rows kept, those of the other task are not among them, and a second run finds the same output."""
    report = run(SETTINGS, shop.inputs({}), shop.store)
    rows = shop.dev.filter(task="QC")
    assert (report.rows.incoming, report.rows.kept) == (len(rows), len(rows))
    artifact = open_artifact(shop.store, report.address)
    assert artifact is not None
    scores = artifact.table("scores")
    assert sorted(scores["pair_id"]) == sorted(rows["pair_id"])
    assert scores["champion_p"].null_count() == len(scores)
    assert report.figures["champion"] is None
    assert run(SETTINGS, shop.inputs({}), shop.store).digest == report.digest


@pytest.mark.slow
def test_the_champion_answers_the_same_rows_as_itself(shop: Shop, old: Manifest) -> None:
    """champion_p is what the published version gives those rows; p, of another adapter, is something else."""
    report = run(SETTINGS, shop.inputs({"QC": old.version}), shop.store)
    artifact = open_artifact(shop.store, report.address)
    assert artifact is not None
    scores = artifact.table("scores")
    own = score_with(shop.store, old, shop.dev.filter(task="QC").sort("pair_id"), HERE)
    assert scores["champion_p"].to_list() == own.to_list()
    assert (scores["champion_p"] - scores["p"]).abs().max() > 1e-3
    assert report.figures["champion"]["version"] == old.version
    assert report.figures["champion"]["threshold"] == 0.4


@pytest.mark.slow
def test_a_published_adapter_scores_as_it_did_before(shop: Shop) -> None:
    """The new adapter, published, fetched again and scored by its manifest alone, gives the p of its evaluation."""
    same = shop.publish(shop.adapter)
    report = run(SETTINGS, shop.inputs({"QC": same.version}), shop.store)
    artifact = open_artifact(shop.store, report.address)
    assert artifact is not None
    scores = artifact.table("scores")
    assert scores["champion_p"].to_list() == pytest.approx(scores["p"].to_list(), abs=1e-12)


@pytest.mark.slow
def test_a_version_is_scored_with_its_own_prompt(shop: Shop) -> None:
    """Without the English translation in its prompt the same adapter gives German queries other scores, and only those."""
    with_english, without = (
        shop.publish(shop.adapter),
        shop.publish(shop.adapter, prompt=PromptInfo(name="compact", version="1", max_tokens=128)),
    )
    rows = shop.dev.filter(task="QC")
    one, other = (score_with(shop.store, version, rows, HERE) for version in (with_english, without))
    moved = (one - other).abs() > 1e-6
    assert set(rows.filter(moved)["language"]) == {"de"}
    assert not moved.filter(rows["language"] == "en").any()


@pytest.mark.slow
def test_a_version_whose_base_is_gone_says_so(shop: Shop) -> None:
    """The error names the base, where it should be, and what to do."""
    gone = shop.publish(shop.adapter, base=BaseInfo(id=BASE_ID, revision="lost", uri="stages/base/gone"))
    with pytest.raises(NotFound, match=r"base model builtin:tiny@0123 of relevance-qc@.* what to do"):
        score_with(shop.store, gone, shop.dev, HERE)


@pytest.mark.slow
def test_a_file_is_evaluated_by_the_newest_version_while_nothing_serves(
    shop: Shop, old: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    """The figures are those of `measure` at the version's threshold; that it is only a candidate is in the JSON and logged."""
    newest = shop.publish(shop.adapter, threshold=0.3, created="2026-11-01T00:00:00+00:00")
    caplog.set_level("INFO", "relevance_core")
    found = evaluate_file(shop.store, "QC", str(labelled_file(shop)), None, HERE)
    rows = shop.dev.filter(task="QC")
    p = score_with(shop.store, newest, rows, HERE).to_numpy()
    expected = measure(p, rows["label"].to_numpy() == 1, rows["language"].to_list(), 0.3)
    assert {"task": "QC", "version": newest.version, "role": "candidate", "unseen": None} | expected == found
    assert any("nobody has promoted" in text for text in caplog.messages)
    by_name = evaluate_file(shop.store, "QC", str(labelled_file(shop)), old.version[:8], HERE)
    assert (by_name["version"], by_name["role"], by_name["threshold"]) == (old.version, "version", 0.4)


@pytest.mark.slow
def test_queries_that_a_version_was_trained_on_are_told_apart(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """`unseen` measures the rows whose query, in any case, is not among the training rows; the figures beside it measure all."""
    rows = shop.dev.filter(task="QC")
    trained = rows.head(4).with_columns(pl.col("query").str.to_uppercase())
    denoised = output(shop.store, "denoise", lambda out: out.table("train", trained), "QC")
    version = shop.publish(shop.adapter, data={"train": denoised.files["train.parquet"]["sha256"]})
    caplog.set_level("INFO", "relevance_core")
    found = evaluate_file(shop.store, "QC", str(labelled_file(shop)), version.version, HERE)
    left = rows.filter(~pl.col("query").is_in(rows["query"].head(4).implode()))
    assert (found["rows"], found["unseen"]["rows"]) == (len(rows), len(left)) == (32, 28)
    assert any("4 of 32 rows have a query that the version was trained on" in text for text in caplog.messages)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_a_file_is_scored_in_its_own_order(shop: Shop, old: Manifest, suffix: str) -> None:
    """Every row of the task with p, the decision at the version's threshold and the version; labels are not needed."""
    data, result = shop.folder / "unlabelled.csv", shop.folder / f"scores{suffix}"
    shop.dev.select("task", "language", "query", "target").write_csv(data)
    told = score_file(shop.store, "QC", str(data), str(result), old.version, here(shop))
    read = {".parquet": pl.read_parquet, ".jsonl": pl.read_ndjson, ".csv": pl.read_csv}[suffix](result)
    rows = shop.dev.filter(task="QC")
    assert read["query"].to_list() == rows["query"].to_list()
    assert read["p_yes"].to_list() == pytest.approx(score_with(shop.store, old, rows, HERE).to_list())
    assert read["decision"].to_list() == [int(p >= 0.4) for p in read["p_yes"]]
    assert set(read["version"]) == {old.version}
    assert (told["rows"], told["relevant"]) == (len(rows), read["decision"].sum())


@pytest.mark.slow
def test_what_cannot_be_scored_is_told(shop: Shop, old: Manifest, tmp_path: Path) -> None:
    """An output of an unknown form, a file without rows of the task, and a store without versions: each names what is wrong."""
    data = labelled_file(shop)
    with pytest.raises(SettingsError, match=r"\.parquet, \.jsonl, \.csv"):
        score_file(shop.store, "QC", str(data), "scores.xlsx", old.version, here(shop))
    only_qi = shop.folder / "qi.csv"
    shop.dev.filter(task="QI").select("task", "language", "query", "target", "label").write_csv(only_qi)
    with pytest.raises(DataError, match="no row of the task QC"):
        evaluate_file(shop.store, "QC", str(only_qi), old.version, HERE)
    with pytest.raises(NotFound, match="no version of QC yet"):
        evaluate_file(open_store(str(tmp_path)), "QC", str(data), None, HERE)
