"""Self-validation filtering: what counts as a contradiction, the cap, the folds, the ledger, and that noise is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks import noise
from relevance_core import config
from relevance_core.config import DenoiseSettings, Settings
from relevance_core.errors import NotFound, SettingsError
from relevance_core.pairs import fold_of
from relevance_core.runs.artifacts import Report, Rows, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.scoring.bases import open_base
from relevance_core.stages.denoise import stage as denoise
from relevance_core.store import Store
from tests.support.models_fixture import save_base, signal_rows
from tests.support.stage_cases import artifact, by_role, log

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
            "denoise": {"enabled": True, "epochs": 3, "confidence": 0.7} | values,
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

    @stage("mine", uses=())
    def make_rows(settings: Settings, inputs: Inputs, out: Any) -> Report:
        out.table("train", rows)
        return Report(Rows())

    made = {"base": make_base(Settings(), Inputs(), store), "mine": make_rows(Settings(), Inputs(task="QC"), store)}
    artifacts = {name: open_artifact(store, report.address) for name, report in made.items()}
    return Inputs(by_role("denoise", {name: artifact for name, artifact in artifacts.items() if artifact}), "QC")


def scored(*rows: tuple[str, int, str, float]) -> pl.DataFrame:
    return judged(*((*row[:3], [row[3]]) for row in rows))


def judged(*rows: tuple[str, int, str, list[float]]) -> pl.DataFrame:
    """Rows that several models have scored."""
    schema = {"pair_id": pl.String, "label": pl.Int8, "language": pl.String, "votes": pl.List(pl.Float64)}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(p=pl.col("votes").list.mean())


def rare_language() -> pl.DataFrame:
    """400 rows of en that the model agrees with, and 20 of ar, 12 relevant ones and 8 others, all of which it contradicts."""
    en = [(f"en{n:03}", n % 2, "en", 0.9 if n % 2 else 0.1) for n in range(400)]
    return scored(*en, *((f"ar{n:02}", int(n < 12), "ar", 0.05 if n < 12 else 0.95) for n in range(20)))


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


def test_each_label_has_its_own_confidence() -> None:
    """At 0.8, and 0.6 for rows labelled not relevant, a 0 scored 0.6 is contradicted, a 0 scored 0.59 or a 1 scored 0.4 not."""
    rows = scored(("a", 1, "en", 0.2), ("b", 1, "en", 0.4), ("c", 0, "en", 0.6), ("d", 0, "en", 0.59))
    assert sorted(acted(rows, confidence=0.8, confidence_not_relevant=0.6, max_share=1)) == ["a", "c"]


@pytest.mark.parametrize(
    ("detector", "confidence", "found"),
    [
        ("confidence", 0.6, ["a", "b", "z"]),
        ("cleanlab", 0.6, ["a", "z"]),
        ("both", 0.6, ["a", "z"]),
        ("both", 0.8, ["a"]),
    ],
)
def test_confident_learning_has_a_threshold_for_each_label(detector: str, confidence: float, found: list[str]) -> None:
    """The relevant rows have a mean p(yes) of 0.63, the others a mean p(no) of 0.7875: a 0 scored 0.65 is found, a 1 scored 0.35 is
    not."""
    relevant = [("a", 1, "en", 0.1), ("b", 1, "en", 0.35), ("c", 1, "en", 0.9), ("d", 1, "en", 0.9), ("e", 1, "en", 0.9)]
    others = [("w", 0, "en", 0.05), ("x", 0, "en", 0.05), ("y", 0, "en", 0.1), ("z", 0, "en", 0.65)]
    assert sorted(acted(scored(*relevant, *others), detector=detector, confidence=confidence, max_share=1)) == found


def test_all_languages_share_the_thresholds_of_confident_learning() -> None:
    """Thresholds of 0.84 spare a language whose rows are all scored 0.6 against their label; thresholds of its own would not."""
    en = [(f"en{n:02}", n % 2, "en", 0.95 if n % 2 else 0.05) for n in range(16)]
    unknown = [(f"xx{n}", n % 2, "xx", 0.4 if n % 2 else 0.6) for n in range(4)]
    assert not denoise.confident_learning(scored(*en, *unknown)).any()
    assert denoise.confident_learning(scored(*unknown)).all()


def test_confident_learning_of_one_label_finds_nothing() -> None:
    """Rows of the same label have no other threshold to reach."""
    assert acted(scored(("a", 1, "en", 0.01), ("b", 1, "en", 0.9)), detector="cleanlab", max_share=1) == []
    assert acted(scored(), detector="both") == []


def test_confident_learning_of_rows_that_a_model_has_learned_is_refused() -> None:
    """In-sample with cleanlab raises an error that says which mode it needs."""
    with pytest.raises(SettingsError, match="needs mode out-of-fold"):
        settings_with(mode="in-sample", detector="cleanlab")


def test_more_than_half_of_the_models_contradict() -> None:
    """Two of three at 0.8 are enough, whatever the third says; one of three, or of two, is not."""
    rows = judged(("a", 1, "en", [0.1, 0.99, 0.2]), ("b", 1, "en", [0.01, 0.3, 0.3]), ("c", 0, "en", [0.9, 0.8, 0.9]))
    found = denoise.contradictions(rows, DenoiseSettings(votes=3, max_share=1))
    assert found["pair_id"].to_list() == ["c", "a"]
    assert found["doubt"].to_list() == pytest.approx([2.6 / 3, 1.71 / 3])
    assert acted(judged(("a", 1, "en", [0.1, 0.3]), ("b", 1, "en", [0.1, 0.2])), votes=2, max_share=1) == ["b"]


@pytest.mark.parametrize("detector", ["confidence", "cleanlab", "both"])
def test_a_rare_language_is_not_filtered_away(detector: str) -> None:
    """Of 20 contradicted rows, 12 relevant and 8 not, a quarter of each label may go: 3 and 2; of three rows of a label none."""
    rows, settings = rare_language(), DenoiseSettings(detector=detector, max_share=0.25)
    found = denoise.contradictions(rows, settings)
    assert (set(found["language"]), len(found)) == ({"ar"}, 20)
    kept = denoise.act(rows, found.filter("acted").select("pair_id", score="p"), "drop")
    assert kept.filter(language="en").height == 400
    assert sorted(kept.filter(language="ar").group_by("label").len().rows()) == [(0, 6), (1, 9)]
    few = rows.filter((pl.col("language") == "en") | pl.col("pair_id").is_in(["ar00", "ar01", "ar02"]))
    assert denoise.contradictions(few, settings)["acted"].to_list() == [False, False, False]


def test_each_action_does_what_it_says() -> None:
    """Drop removes the row, flip gives it the other label, review leaves it; the others stay as they were."""
    rows = pl.DataFrame({"pair_id": ["a", "b"], "label": pl.Series([1, 0], dtype=pl.Int8)})
    chosen = pl.DataFrame({"pair_id": ["a"], "score": [0.1]})
    assert denoise.act(rows, chosen, "drop").rows() == [("b", 0)]
    assert denoise.act(rows, chosen, "flip").rows() == [("a", 0), ("b", 0)]
    assert denoise.act(rows, chosen, "flip").schema == rows.schema
    assert denoise.act(rows, chosen, "review").rows() == [("a", 1), ("b", 0)]


def test_a_weighted_row_counts_as_much_as_its_label_is_likely() -> None:
    """A 1 scored 0.1 keeps a tenth of its weight, a 0 scored 0.8 a fifth, a 1 scored 0.01 the least there is, 0.05; labels stay."""
    rows = pl.DataFrame(
        {"pair_id": ["a", "b", "c", "d"], "label": [1, 0, 1, 1], "weight": [2.0, 1.0, 1.0, 3.0]},
        schema_overrides={"weight": pl.Float32},
    )
    weighted = denoise.act(rows, pl.DataFrame({"pair_id": ["c", "b", "a"], "score": [0.01, 0.8, 0.1]}), "weight")
    assert weighted["weight"].to_list() == pytest.approx([0.2, 0.2, 0.05, 3.0])
    assert weighted.drop("weight").equals(rows.drop("weight"))
    assert weighted.schema == rows.schema


@pytest.fixture
def ballots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three models: of the first relevant row two doubt the label, of the second one does, and all agree with the others."""

    def scores(settings: Settings, inputs: Inputs, out: Any, rows: pl.DataFrame) -> pl.DataFrame:
        said = {"red": [0.1, 0.1, 0.7], "blue": [0.1, 0.9, 0.9]}
        votes = [said[row["query"]] if row["label"] else [0.1] * 3 for row in rows.iter_rows(named=True)]
        frame = rows.select("pair_id", p=pl.Series(votes, dtype=pl.List(pl.Float64)))
        return frame.explode("p").with_columns(model=pl.Series(["fold-0:0a", "fold-0-vote-1:1b", "fold-0-vote-2:2c"] * len(rows)))

    monkeypatch.setattr(denoise, "_scores", scores)


@pytest.mark.usefixtures("ballots")
@pytest.mark.parametrize(("action", "label", "weight"), [("flip", 0, 1.0), ("weight", 1, 0.3)])
def test_an_ensemble_decides_by_its_majority(action: str, label: int, weight: float, store: Store) -> None:
    """The row that two of three doubt is flipped, or weighted by the mean of the three; the ledger names them all."""
    rows = log(("en", "red", "shoes", 1), ("en", "blue", "shoes", 1), ("en", "red", "case", 0))
    settings = settings_with(votes=3, action=action, max_share=0.5)
    report = denoise.run(settings, Inputs({"rows": artifact(store, "mine", {"train": rows})}, "QC"), store)
    found = open_artifact(store, report.address)
    assert found is not None
    (row,) = found.table("ledger").rows(named=True)
    assert (row["query"], row["label"], row["action"]) == ("red", 1, action)
    assert (row["score"], row["model"]) == (pytest.approx(0.3), "fold-0:0a+fold-0-vote-1:1b+fold-0-vote-2:2c")
    train = found.table("train")
    assert train["label"].to_list() == [label, 1, 0]
    assert train["weight"].to_list() == pytest.approx([weight, 1, 1])
    assert report.figures.get("weight") == ({"before": 1.0, "after": 0.3} if action == "weight" else None)
    assert found.table("scores").height == 9


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
    out = type("Out", (), {"work": tmp_path / "work"})()
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


@pytest.mark.parametrize("mode", ["out-of-fold", "in-sample"])
def test_voters_differ_by_their_seed_alone(mode: str, base: Path, store: Store, tmp_path: Path) -> None:
    """The first vote is the model that would judge alone; the second learns from the same rows with another seed and name."""
    rows = signal_rows(40)
    ref = open_base(inputs_of(store, rows, base)["base"])
    out = type("Out", (), {"work": tmp_path / "work"})()
    alone = denoise._folds(settings_with(mode=mode), ref, out, rows)
    both = denoise._folds(settings_with(mode=mode, votes=2), ref, out, rows)
    assert [(fold.name, fold.job) for fold in both[::2]] == [(fold.name, fold.job) for fold in alone]
    assert [fold.name for fold in both[1::2]] == [f"{fold.name}-vote-1" for fold in alone]
    for first, second in zip(both[::2], both[1::2], strict=True):
        assert second.train.equals(first.train)
        assert second.held_out.equals(first.held_out)
        assert second.job.seed != first.job.seed
        assert second.job.work != first.job.work


def test_finished_folds_are_not_trained_again(base: Path, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A stage that died after a fold finds that fold's scores: its model, gone by then, is not needed."""
    caplog.set_level("INFO", "relevance_core")
    rows = signal_rows(40)
    ref = open_base(inputs_of(store, rows, base)["base"])
    out = type("Out", (), {"work": tmp_path / "work"})()
    (fold, _) = denoise._folds(settings_with(epochs=0.5), ref, out, rows)
    first = denoise.score_fold(fold)
    assert any(line.startswith("fold-0: training on ") for line in caplog.messages)
    caplog.clear()
    again = denoise.Fold(fold.name, fold.train.clear(), fold.held_out, fold.job, fold.settings)
    assert denoise.score_fold(again).equals(first)
    assert caplog.messages == []
    assert first["pair_id"].to_list() == fold.held_out["pair_id"].to_list()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(base: Path, store: Store, tmp_path: Path) -> None:
    """Folds in processes of their own give the same scores as one after the other."""
    rows = signal_rows(80)
    ref = open_base(inputs_of(store, rows, base)["base"])
    scores = []
    for workers in (1, 2):
        settings = settings_with(epochs=1).model_copy(update={"engine": config.EngineSettings(device="cpu", workers=workers)})
        out = type("Out", (), {"work": tmp_path / str(workers)})()
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


def test_the_benchmark_counts_what_the_filter_acts_on_against_the_truth() -> None:
    """Of three wrong labels one is acted on, beside a right one: precision 1/2, recall 1/3; a capped row is not acted on."""
    rows = pl.DataFrame(
        {
            "pair_id": ["a", "b", "c", "d", "e"],
            "label": [1, 1, 1, 0, 0],
            "truth": [0, 0, 1, 1, 0],
            "acted": [True, False, True, None, None],
        }
    )
    counts = {"rows": 5, "wrong": 3, "contradicted": 3, "acted": 2, "caught": 1}
    assert noise.counted(rows) == {**counts, "precision": 1 / 2, "recall": pytest.approx(1 / 3)}
    assert (noise.counted(rows.clear())["precision"], noise.counted(rows.clear())["recall"]) == (None, None)


def test_the_benchmark_judges_one_scoring_by_every_detector() -> None:
    """The single model is the first of three votes; only the majority's line reads them all; the table has a line a detector."""
    rows = rare_language().select("pair_id", "label", "language")
    truth = rows.filter(language="en").select("pair_id", truth=pl.when(pl.col("pair_id") == "en001").then(0).otherwise("label"))
    votes = [
        rows.select("pair_id", p=pl.when(pl.col("pair_id") == "en001").then(p).otherwise("label").cast(pl.Float64))
        for p in (1.0, 0.1, 0.1)
    ]
    scores = pl.concat(votes).with_columns(model=pl.lit("m")).sort("pair_id", maintain_order=True)
    figures = list(
        noise.judged(
            rows, truth, {"out-of-fold": scores, "in-sample": votes[1].with_columns(model=pl.lit("m"))}, DenoiseSettings(), 3
        )
    )
    assert {figure["detector"]: figure["caught"] for figure in figures if figure["language"] == "all"} == {
        "confidence, out-of-fold": 0,
        "confidence, in-sample": 1,
        "cleanlab, out-of-fold": 0,
        "cleanlab, out-of-fold, each language by itself": 0,
        "both, out-of-fold": 0,
        "confidence, out-of-fold, more than half of 3": 1,
    }
    assert {(figure["rows"], figure["wrong"]) for figure in figures} == {(400, 1)}
    assert "| confidence, in-sample | 1 | 1.00 / 1.00 | 1.00 / 1.00 |" in noise.table("QC", figures)
