"""What `relevance ablate` compares, what it says of it, and one small table made whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from relevance_core import reporting
from relevance_core.config import build
from relevance_core.errors import DataError, NotFound, RelevanceError, SettingsError
from relevance_core.metrics import Gain, Paired, gain_over_seeds, paired_bootstrap
from relevance_core.registry import Registry
from relevance_core.store import open_store
from relevance_core.tools.ablation.ablation import Cell, Plan, check, settings_of
from relevance_core.tools.ablation.figures import figures, says
from relevance_core.tools.ablation.report import markdown, page
from relevance_core.tools.ablation.strategies import PUBLISHED, rows_of
from tests.support.loop import SMALL, forked, relevance, small_shop

SETTINGS = build({"onboard": ["de"], "tasks": ["QC"], "source": {"uri": "logs-{seed}"}, "window": {"end": "2026-10-05"}})


def answers(p: list[float], labels: list[int], languages: list[str]) -> pl.DataFrame:
    """Rows that judge, each its own query."""
    names = [f"row {number}" for number in range(len(p))]
    return pl.DataFrame({"pair_id": names, "group": names, "language": languages, "label": labels, "p": p})


def test_each_row_adds_one_strategy_and_keeps_the_ones_before() -> None:
    """SFT has all four off and no language that comes in; the threshold alone is no other training."""
    rows = rows_of(PUBLISHED, {})
    assert [row.name for row in rows] == ["SFT", "+ translation", "+ hard-negatives", "+ filter", "+ threshold"]
    assert [row.beside for row in rows] == [None, "SFT", "+ translation", "+ hard-negatives", "+ filter"]
    assert [row.calibrated for row in rows] == [False, False, False, False, True]
    cells = [settings_of(Plan(SETTINGS, rows, (3,)), row, 3) for row in rows]
    assert [cell.onboard for cell in cells] == [(), ("de",), ("de",), ("de",), ("de",)]
    switches = [(cell.translate.enabled, cell.mine.enabled, cell.denoise.enabled) for cell in cells]
    assert switches == [(False, False, False), (True, False, False), (True, True, False), (True, True, True), (True, True, True)]
    assert (cells[0].seed, cells[0].source.uri) == (3, "logs-3")


def test_a_subset_leaves_the_rest_as_the_settings_have_it() -> None:
    """With the filter alone, translation and mining stay on in both rows."""
    rows = rows_of(["filter"], {"one epoch": {"train": {"epochs": 1.0}}})
    cells = [settings_of(Plan(SETTINGS, rows, (3,)), row, 3) for row in rows]
    assert [cell.denoise.enabled for cell in cells] == [False, True, True]
    assert [cell.train.epochs for cell in cells] == [2.0, 2.0, 1.0]
    assert all(cell.mine.enabled and cell.onboard == ("de",) for cell in cells)
    assert (rows[2].name, rows[2].beside) == ("one epoch", "+ filter")


def test_a_row_for_each_source_language() -> None:
    """Each stands behind the translation from all languages, differs from it by its one source, and is compared with none."""
    rows = rows_of(["translation", "filter"], {}, ["en", "es"])
    assert [row.name for row in rows] == ["SFT", "+ translation", "from en", "from es", "+ filter"]
    assert [row.beside for row in rows] == [None, "SFT", "SFT", "SFT", "+ translation"]
    cells = [settings_of(Plan(SETTINGS, rows, (3,)), row, 3) for row in rows]
    assert [cell.translate.sources for cell in cells] == [(), (), ("en",), ("es",), ()]
    assert [cell.onboard for cell in cells[1:4]] == [("de",)] * 3
    assert not cells[3].denoise.enabled


def test_a_language_without_calibration_rows_has_no_gains() -> None:
    """Without a labelled row of German there is nothing to choose its sources by, and the table says so."""
    rows = rows_of(["translation"], {}, ["en"])
    english = answers([0.9, 0.1], [1, 0], ["en", "en"])
    found = figures(Plan(SETTINGS, rows, (17,)), [Cell(row.name, 17, "QC", english, 0.5, english) for row in rows])
    assert found["sources"] == {"de": {}}
    assert "German: no labelled calibration rows" in markdown(found)


@pytest.mark.parametrize(
    ("strategies", "sources"), [(["filter"], ["en"]), (["translation"], ["en", "en"]), (["translation"], ["xx"])]
)
def test_source_languages_need_the_row_of_translation(strategies: list[str], sources: list[str]) -> None:
    """Without it there is nothing to compare; one named twice and one that is no language are refused before a training."""
    with pytest.raises(SettingsError, match="translation among --strategies"):
        rows_of(strategies, {}, sources)


def test_source_languages_gain_by_their_calibration_rows() -> None:
    """On 20 calibration rows of German nothing is found without translation: from English all is (F1 from 0 to 1), from Spanish
    nothing. The judgement rows, where Spanish is right and English wrong, do not count.
    """
    rows = rows_of(["translation"], {}, ["en", "es"])
    wrong, right = answers([0.1] * 20, [1] * 20, ["de"] * 20), answers([0.9] * 20, [1] * 20, ["de"] * 20)
    calibration = {"SFT": wrong, "+ translation": right, "from en": right, "from es": wrong}
    judgement = {"SFT": wrong, "+ translation": right, "from en": wrong, "from es": right}
    cells = [Cell(row.name, 17, "QC", judgement[row.name], 0.5, calibration[row.name]) for row in rows]
    found = figures(Plan(SETTINGS, rows, (17,)), cells)
    assert {source: (gain["gain"], gain["low"], gain["says"]) for source, gain in found["sources"]["de"].items()} == {
        "en": (1.0, 1.0, "keep"),
        "es": (0.0, 0.0, "noise"),
    }
    assert "| German | +1.000 (+1.000 to +1.000) ▲ | +0.000 (+0.000 to +0.000) |" in markdown(found)
    assert "Source languages" in reporting.render(page(found))
    (card,) = page(found).cards
    assert card.lines == ["Worth keeping: translation."]


@pytest.mark.parametrize("names", [["filters"], ["filter", "filter"]])
def test_a_strategy_that_is_none_is_named(names: list[str]) -> None:
    """A wrong name and a name given twice are refused before anything is trained."""
    with pytest.raises(SettingsError, match="each once: translation, hard-negatives"):
        rows_of(names, {})


def test_with_one_seed_the_gain_is_that_of_the_paired_bootstrap() -> None:
    """Up to the draws: 30 queries of which one answer in ten differs."""
    labels = np.array([True, False, True] * 10)
    a = labels.copy()
    b = labels.copy()
    b[[0, 9, 18]] = False
    groups = [str(number) for number in range(30)]
    one = gain_over_seeds([Paired(labels, a, b, groups)], 4000, 1)
    other = paired_bootstrap(labels, a, b, groups, 4000, 2)
    assert one.gain == pytest.approx(other.gain, abs=0.005)
    assert (one.low, one.high) == (pytest.approx(other.low, abs=0.03), pytest.approx(other.high, abs=0.03))


def test_seeds_that_disagree_widen_the_interval() -> None:
    """One query of one row, right in `a` and wrong in `b` for the first seed, the other way round for the second: gain 0, and a
    draw of two seeds gives -1, 0 or 1.
    """
    yes, no = np.array([True]), np.array([False])
    gain = gain_over_seeds([Paired(yes, yes, no, ["q"]), Paired(yes, no, yes, ["q"])], 1000, 5)
    assert (gain.gain, gain.low, gain.high) == (0.0, -1.0, 1.0)
    assert gain.better == pytest.approx(0.25, abs=0.04)


def test_nothing_to_compare_is_an_error() -> None:
    """An empty judging set has no gain."""
    empty = np.zeros(0, dtype=bool)
    with pytest.raises(DataError, match="no rows to compare"):
        gain_over_seeds([Paired(empty, empty, empty, [])], 100, 1)


@pytest.mark.parametrize(("low", "high", "word"), [(0.001, 0.02, "keep"), (-0.01, 0.02, "noise"), (-0.02, -0.001, "harm")])
def test_an_interval_decides_what_is_said(low: float, high: float, word: str) -> None:
    """Above zero, around it, below it."""
    assert says(Gain(0.0, low, high, 0.5)) == word


def test_the_gap_that_translation_closes_is_a_share_of_the_distance_before() -> None:
    """English F1 is 1. German goes from 2/3 (one of two found, none wrong) to 1: all of the distance is closed, by AUC too (0.75
    to 1). The threshold row decides at 0.3 instead of 0.5, and finds what stood at 0.4.
    """
    labels, languages = [1, 0, 1, 1, 0, 0], ["en", "en", "de", "de", "de", "de"]
    before = answers([0.9, 0.1, 0.9, 0.2, 0.3, 0.1], labels, languages)
    after = answers([0.9, 0.1, 0.9, 0.8, 0.3, 0.1], labels, languages)
    late = answers([0.9, 0.1, 0.9, 0.4, 0.2, 0.1], labels, languages)
    rows = rows_of(["translation", "hard-negatives", "threshold"], {})
    made = [
        Cell(row.name, 17, "QC", rows_there, 0.3, rows_there)
        for row, rows_there in zip(rows, [before, after, late, late], strict=True)
    ]
    found = figures(Plan(SETTINGS, rows, (17,)), made)["tasks"]["QC"]
    assert [row["f1"]["mean"] for row in found["rows"]] == [pytest.approx(0.8), 1.0, pytest.approx(0.8), 1.0]
    assert found["rows"][0]["per_language"]["de"]["f1"]["mean"] == pytest.approx(2 / 3)
    assert found["gap"] == {"de": {name: {"mean": 1.0, "smallest": 1.0, "largest": 1.0} for name in ("f1", "auc")}}
    assert found["rows"][0]["gain"] is None
    assert found["rows"][1]["gain"]["beside"] == "SFT"
    assert found["rows"][1]["per_language"]["en"]["gain"]["says"] == "noise"


def test_the_table_and_the_page_hold_every_row() -> None:
    """The first row has no gain; the names of files are escaped on the page."""
    rows = rows_of(["threshold"], {})
    table = answers([0.9, 0.1, 0.4, 0.2], [1, 0, 1, 0], ["en", "en", "de", "de"])
    plan = Plan(SETTINGS, rows, (17,), "<b>.jsonl")
    found = figures(plan, [Cell(row.name, 17, "QC", table, 0.3, table) for row in rows])
    text = markdown(found)
    assert "| SFT | 0.667 | 0.733 | 1.000 | 0.000 | 0.667 |  |" in text
    assert "| + threshold | 1.000 | 1.000 | 1.000 | 0.000 | 0.667 | +0." in text
    html = reporting.render(page(found))
    assert "&lt;b&gt;.jsonl" in html
    assert "<b>.jsonl" not in html


def test_a_mistake_shows_before_anything_is_trained(tmp_path: Path) -> None:
    """Rows of the second seed that are not there, a judging file that is missing or has no row of the task, a setting of the last
    row: each is an error at once.
    """
    line = {"language": "en", "query": "shoes", "label": 1, "event_time": "2026-10-04T10:00:00Z"}
    for name in ("logs-17.jsonl", "qi.jsonl"):
        (tmp_path / name).write_text(json.dumps(line | {"task": "QI", "target": "red shoes"}) + "\n")
    settings = build({"tasks": ["QC"], "source": {"uri": str(tmp_path / "logs-{seed}.jsonl")}, "window": {"end": "2026-10-05"}})
    rows = rows_of(["filter"], {})
    check(Plan(settings, rows, (17,)))
    with pytest.raises(RelevanceError, match=r"logs-18\.jsonl"):
        check(Plan(settings, rows, (17, 18)))
    with pytest.raises(NotFound, match=r"none\.jsonl"):
        check(Plan(settings, rows, (17,), str(tmp_path / "none.jsonl")))
    with pytest.raises(DataError, match="no row of the task QC"):
        check(Plan(settings, rows, (17,), str(tmp_path / "qi.jsonl")))
    with pytest.raises(SettingsError, match=r"mine\.mix"):
        check(Plan(settings, rows_of(["filter"], {"mixed": {"mine": {"mix": {"easy": 0.5}}}}), (17,)))


@pytest.mark.slow
def test_a_table_is_made_whole_and_found_again(tmp_path: Path) -> None:
    """Two trainings and a threshold on a small shop: figures, tables and page are written, nothing in the store can serve, and the
    same command finds every cell.
    """
    shop = small_shop(tmp_path / "shop")
    settings = [part for setting in (*SMALL, "denoise.enabled=false") for part in ("--set", setting)]
    rows = ["--strategies", "hard-negatives,threshold", "--seeds", "1", "--tasks", "QI", "--also", "none mined:mine.enabled=false"]
    where = [
        "--store",
        str(tmp_path / "store"),
        "--source",
        str(shop),
        "--window-end",
        "2026-10-05",
        "--out",
        str(tmp_path / "out"),
    ]
    first = relevance("ablate", *where, *rows, *settings, "--json")
    assert first.code == 0, first.log
    made = first.result["tasks"]["QI"]["rows"]
    assert [row["name"] for row in made] == ["SFT", "+ hard-negatives", "+ threshold", "none mined"]
    # The further row is the table's first one, but decided at the calibrated threshold.
    assert made[3]["auc"] == made[0]["auc"]
    assert made[1]["auc"] == made[2]["auc"] != made[0]["auc"]
    assert json.loads((tmp_path / "out" / "ablation.json").read_text()) == first.result
    assert (tmp_path / "out" / "ablation.html").stat().st_size > 1_000_000
    store = open_store(str(tmp_path / "store"))
    assert Registry(store).current() is None
    assert {entry.key.split("/")[0] for entry in store.list("")} == {"ablation"}
    again = forked("ablate", *where, *rows, *settings, "--json")
    assert again.result == first.result
    assert "started" not in again.log
