"""Self-validation filtering: what counts as a contradiction, the cap, the folds, the ledger, and that noise is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from relevance_core import config
from relevance_core.config import DenoiseSettings, Settings
from relevance_core.errors import NotFound, SettingsError
from relevance_core.pairs import fold_of
from relevance_core.stages import denoise
from relevance_core.stages.base import Inputs, Report, Rows, open_artifact, stage
from relevance_core.stages.bases import open_base
from relevance_core.store import Store
from tests.models_fixture import save_base, signal_rows

NOISY = ["00007", "00042", "00101", "00333"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


def noisy_rows() -> pl.DataFrame:
    """400 rows of two languages, four of them with the wrong label."""
    wrong = pl.col("pair_id").is_in(NOISY)
    rows = signal_rows(400, ("en", "es"))
    return rows.with_columns(label=pl.when(wrong).then(1 - pl.col("label")).otherwise(pl.col("label")).cast(pl.Int8))


def settings_with(**values: Any) -> Settings:
    return config.build(
        {
            "train": {"batch_size": 16},
            "denoise": {"epochs": 3, "confidence": 0.7} | values,
            "engine": {"device": "cpu", "workers": 1},
        }
    )


def inputs_of(store: Store, rows: pl.DataFrame, base: Path, folds: tuple[Path, ...] = ()) -> Inputs:
    """Finished outputs of *base* and *mine* in the store."""

    @stage("base", uses=())
    def make_base(settings: Settings, inputs: Inputs, out: Any) -> Report:
        out.folder("model", base)
        for number, fold in enumerate(folds):
            out.folder(f"fold-{number}", fold)
        about = {"id": "b@1", "model": "builtin:tiny", "revision": "main", "address": out.address, "folds": len(folds)}
        out.json("base", about)
        return Report(Rows())

    @stage("mine", uses=(), by_task=True)
    def make_rows(settings: Settings, inputs: Inputs, out: Any) -> Report:
        out.table("train", rows)
        return Report(Rows())

    made = {"base": make_base(Settings(), Inputs(), store), "mine": make_rows(Settings(), Inputs(task="QC"), store)}
    artifacts = {name: open_artifact(store, report.address) for name, report in made.items()}
    return Inputs({name: artifact for name, artifact in artifacts.items() if artifact}, "QC")


def scored(*rows: tuple[str, int, str, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["pair_id", "label", "language", "p"], orient="row")


def acted(rows: pl.DataFrame, **values: Any) -> list[str]:
    return denoise.contradictions(rows, DenoiseSettings(**values)).filter("acted")["pair_id"].to_list()


def test_a_contradiction_is_the_other_label_with_confidence() -> None:
    """At 0.8, a 1 scored 0.2 and a 0 scored 0.8 are contradicted; a 1 scored 0.21 and a 0 scored 0.79 are not."""
    rows = scored(("a", 1, "en", 0.2), ("b", 1, "en", 0.21), ("c", 0, "en", 0.8), ("d", 0, "en", 0.79))
    assert sorted(acted(rows, confidence=0.8, max_share=1)) == ["a", "c"]


def test_the_cap_keeps_the_most_confident_of_each_label_and_language() -> None:
    """Of four contradicted en positives and max_share 0.5 the two lowest are acted on; es and label 0 have their own cap."""
    rows = scored(
        ("a", 1, "en", 0.10),
        ("b", 1, "en", 0.01),
        ("c", 1, "en", 0.05),
        ("d", 1, "en", 0.05),
        ("e", 1, "es", 0.15),
        ("f", 1, "es", 0.9),
        ("g", 0, "en", 0.9),
    )
    assert acted(rows, confidence=0.8, max_share=0.5) == ["b", "c", "e"]
    assert acted(rows, confidence=0.8, max_share=0) == []
    assert len(denoise.contradictions(rows, DenoiseSettings(confidence=0.8, max_share=0))) == 6


def test_each_action_does_what_it_says() -> None:
    """Drop removes the row, flip gives it the other label, review leaves it; the others stay as they were."""
    rows = pl.DataFrame({"pair_id": ["a", "b"], "label": pl.Series([1, 0], dtype=pl.Int8)})
    chosen = pl.Series(["a"])
    assert denoise.act(rows, chosen, "drop").rows() == [("b", 0)]
    assert denoise.act(rows, chosen, "flip").rows() == [("a", 0), ("b", 0)]
    assert denoise.act(rows, chosen, "flip").schema == rows.schema
    assert denoise.act(rows, chosen, "review").rows() == [("a", 1), ("b", 0)]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["out-of-fold", "in-sample"])
def test_wrong_labels_are_found(mode: str, base: Path, store: Store) -> None:
    """Four wrong labels among 400 rows of a plain rule are dropped and nothing else is; the ledger says which, why and by whom."""
    rows = noisy_rows()
    settings = settings_with(mode=mode, epochs=6)
    report = denoise.run(settings, inputs_of(store, rows, base), store)
    artifact = open_artifact(store, report.address)
    assert artifact is not None
    ledger = artifact.table("ledger")
    assert ledger["pair_id"].to_list() == NOISY
    assert dict(ledger.schema) == denoise.LEDGER
    assert set(ledger["reason"]) == {denoise.REASON}
    assert set(ledger["action"]) == {"drop"}
    assert artifact.table("train").equals(rows.filter(~pl.col("pair_id").is_in(NOISY)))
    assert (report.rows.incoming, report.rows.kept, report.rows.dropped) == (400, 396, 4)
    assert (report.figures["contradicted"], report.figures["acted"]) == (4, 4)
    assert sum(group["rows"] for group in report.figures["by_label_and_language"]) == 400
    scores = artifact.table("scores").join(rows, on="pair_id", validate="1:1")
    names = {model.split(":")[0] for model in scores["model"]}
    assert names == ({"in-sample"} if mode == "in-sample" else {"fold-0", "fold-1"})
    for group, model in scores.select("group", "model").unique().rows():
        assert mode == "in-sample" or model.startswith(f"fold-{fold_of(group, 2)}:")


def test_a_fold_is_scored_by_a_model_that_saw_none_of_its_groups(base: Path, store: Store, tmp_path: Path) -> None:
    """Each fold's adapter learns from the other folds' groups alone and on the base made for that fold."""
    folds = (save_base(tmp_path / "0", seed=5), save_base(tmp_path / "1", seed=6))
    rows = signal_rows(120)
    inputs = inputs_of(store, rows, base, folds)
    ref = open_base(inputs["base"])
    out = type("Out", (), {"work": tmp_path / "work", "say": print})()
    planned = denoise._folds(settings_with(), ref, out, rows)
    assert [fold.name for fold in planned] == ["fold-0", "fold-1"]
    for number, fold in enumerate(planned):
        assert {fold_of(group, 2) for group in fold.held_out["group"]} == {number}
        assert {fold_of(group, 2) for group in fold.train["group"]} == {1 - number}
        assert len(fold.train) + len(fold.held_out) == 120
        assert fold.job.base.source == ref.folds[number] != ref.source
        assert fold.job.settings.epochs == 3
    whole = denoise._folds(settings_with(mode="in-sample"), ref, out, rows)
    assert [(fold.name, fold.job.base.source, len(fold.train), len(fold.held_out)) for fold in whole] == [
        ("in-sample", ref.source, 120, 120)
    ]
    with pytest.raises(SettingsError, match=r"built for 2 folds, not 3; where: denoise\.folds"):
        denoise._folds(settings_with(folds=3), ref, out, rows)


def test_finished_folds_are_not_trained_again(base: Path, store: Store, tmp_path: Path) -> None:
    """A stage that died after a fold finds that fold's scores: its model, gone by then, is not needed."""
    rows = signal_rows(40)
    ref = open_base(inputs_of(store, rows, base)["base"])
    out = type("Out", (), {"work": tmp_path / "work", "say": print})()
    (fold, _) = denoise._folds(settings_with(epochs=0.5), ref, out, rows)
    first = denoise.score_fold(fold)
    said: list[str] = []
    again = denoise.Fold(fold.name, fold.train.clear(), fold.held_out, fold.job, fold.settings, said.append)
    assert denoise.score_fold(again).equals(first)
    assert said == []
    assert first["pair_id"].to_list() == fold.held_out["pair_id"].to_list()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(base: Path, store: Store, tmp_path: Path) -> None:
    """Folds in processes of their own give the same scores as one after the other."""
    rows = signal_rows(80)
    ref = open_base(inputs_of(store, rows, base)["base"])
    scores = []
    for workers in (1, 2):
        settings = settings_with(epochs=1).model_copy(update={"engine": config.EngineSettings(device="cpu", workers=workers)})
        out = type("Out", (), {"work": tmp_path / str(workers), "say": print})()
        folds = denoise._folds(settings, ref, out, rows)
        scores.append(pl.concat(denoise.map_processes(denoise.score_fold, folds, workers)))
    assert scores[0].equals(scores[1])


def test_switched_off_it_passes_the_rows_through(base: Path, store: Store) -> None:
    """With denoise.enabled false every row is kept, nothing is trained and the ledger is empty."""
    rows = noisy_rows()
    report = denoise.run(settings_with(enabled=False), inputs_of(store, rows, base), store)
    artifact = open_artifact(store, report.address)
    assert artifact is not None
    assert artifact.table("train").equals(rows)
    assert artifact.table("ledger").is_empty()
    assert dict(artifact.table("ledger").schema) == denoise.LEDGER
    assert (report.rows.kept, report.rows.dropped) == (400, 0)


def test_a_base_is_found_where_base_json_points(base: Path, store: Store) -> None:
    """A base output may point to an earlier output's folders or to a Hugging Face id; an output that is gone is an error."""
    earlier = inputs_of(store, signal_rows(4), base)["base"]

    def pointing(address: str, model: str) -> Any:
        @stage("base", uses=("seed",))
        def make(settings: Settings, inputs: Inputs, out: Any) -> Report:
            out.json("base", {"id": "b@2", "model": model, "revision": "r1", "address": address, "folds": 0})
            return Report(Rows())

        seed = len(address) + len(model)
        return open_artifact(store, make(config.build({"seed": seed}), Inputs(), store).address)

    ref = open_base(pointing(earlier.address, "builtin:tiny"))
    assert (ref.id, ref.source) == ("b@2", str(earlier.folder("model")))
    hub = open_base(pointing("", "Qwen/Qwen3-14B-Base"), "bfloat16")
    assert (hub.source, hub.revision, hub.dtype, hub.fold(1)) == ("Qwen/Qwen3-14B-Base", "r1", "bfloat16", hub)
    with pytest.raises(NotFound, match=r"b@2 is damaged or gone.*run `relevance stage base` again"):
        open_base(pointing("stages/base/nowhere", "builtin:tiny"))
