"""The HTML report, rendered from outputs made by hand: what it says, what it leaves out, and what it never lets through."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from relevance_core.reporting.page import as_script_json, cell
from relevance_core.runs.artifacts import Output, Report, Rows, open_artifact
from relevance_core.runs.stage import Inputs
from relevance_core.stages.evaluate import judge
from relevance_core.stages.report import build_report, run
from relevance_core.store import Store, open_store
from tests.support.report_cases import (
    HOSTILE,
    SETTINGS,
    champion,
    denoise,
    dev_scores,
    evaluate,
    figures,
    ingest,
    output,
    rollout,
    text,
    train,
    translate,
    validate,
    whole_run,
    without_scripts,
)


@pytest.mark.parametrize(("approved", "word"), [(True, "Approved"), (False, "Not approved")])
def test_a_persons_answer_is_the_outcome(store: Store, approved: bool, word: str) -> None:
    """Where a person was asked, the card of the task says what they answered, and not what the gate left to them."""

    def answered(out: Output) -> Report:
        answers = {"QC": {"approved": approved, "told": "as ada said"}}
        return Report(Rows(), {**rollout(out).figures, "answers": answers})

    artifacts = whole_run(store)
    artifacts["rollout"] = output(store, "answered", answered)
    cards = text(without_scripts(build_report(SETTINGS, artifacts)).partition("<nav")[0])
    assert re.findall("Published|Held|Approved|Not approved", cards) == [word, "Held"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the whole run, without the plotting library."""
    store = open_store(str(tmp_path_factory.mktemp("report")))
    return without_scripts(build_report(SETTINGS, whole_run(store)))


def test_the_outcome_of_each_task_stands_first_in_words(page: str) -> None:
    """Published with its release and proof, and held with the rule that failed, its figure and its bound, before any section."""
    top = text(page.partition("<nav")[0])
    assert "Published" in top
    assert "Version 0123456789abcdef serves since release 3." in top
    assert "Proved servable by vLLM on http://a:1: 32 golden pairs within 2.0e-06 of the trainer's." in top
    assert "Held" in top
    assert re.search(r"F1 0\.9\d+ on 720 judgement rows, at least 0\.9990 wanted", top)
    assert "the champion was not changed" in top


def test_every_section_of_a_whole_run_is_there_once(page: str) -> None:
    """From the quality to the provenance, each with a heading of its own and a link at the top."""
    names = re.findall(r'<section id="([^"]+)"', page)
    assert names == ["quality", "verdict", "rows", "validation", "translation", "negatives", "filter", "training", "provenance"]
    assert re.findall(r'<a href="#([^"]+)">', page.partition("<nav")[2].partition("</nav>")[0]) == names


def test_the_rows_plot_tells_each_stage_and_reason(page: str) -> None:
    """1,000 rows came into ingest and 980 were kept; the 30 quarantined ones stand with their rule."""
    stages, reasons = figures(page)["rows-1-1"], figures(page)["rows-1-2"]
    kept = next(trace for trace in stages["data"] if trace["name"] == "kept")
    assert dict(zip(kept["y"], kept["x"], strict=True))["ingest"] == 980
    quarantined = next(trace for trace in reasons["data"] if trace["name"] == "quarantined")
    assert dict(zip(quarantined["y"], quarantined["x"], strict=True))["validate · label in 0 1"] == 30


def test_the_quality_plot_holds_new_champion_and_always_yes_with_intervals(page: str) -> None:
    """The dots are the figures of metrics.json, and each new version's dot lies inside its interval."""
    metrics = judge(dev_scores(), champion(), seed=1)
    data = {trace.get("name", ""): trace for trace in figures(page)["quality-1-1"]["data"]}
    assert data["new version"]["x"][0] == pytest.approx(metrics["f1"])
    assert data["champion"]["x"][0] == pytest.approx(metrics["champion"]["f1"])
    assert data["always yes"]["x"][0] == pytest.approx(metrics["always_yes_f1"])
    assert data["new version"]["y"] == ["all languages", "English", "Spanish", "French", "German", "Italian"]
    assert all(above >= 0 for above in data["new version"]["error_x"]["array"])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "48 rows dropped: p of the other label at least 0.8, out-of-fold."),
        (
            {"detector": "both", "confidence_not_relevant": 0.7, "votes": 3, "action": "weight"},
            "48 rows given less weight: p of the other label at least 0.8 (0.7 for rows labelled not relevant) "
            "and confident learning by more than half of 3 models, out-of-fold.",
        ),
        ({"detector": "cleanlab", "action": "review"}, "48 rows listed for review: confident learning, out-of-fold."),
    ],
)
def test_the_filter_says_by_which_rule_it_acts(store: Store, changed: dict[str, object], said: str) -> None:
    """The detector, its bounds, the voters and what was done to the rows; of an output that names no detector, the confidence."""

    def filtered(out: Output) -> Report:
        report = denoise(out)
        return Report(report.rows, {**report.figures, **changed})

    artifacts = whole_run(store) | {"denoise:QC": output(store, "filtered", filtered, "QC")}
    assert said in text(without_scripts(build_report(SETTINGS, artifacts)))


def test_a_warning_of_the_translations_is_shown(store: Store) -> None:
    """The warning in its words, and the shares of a language with each guard's count."""

    def warned(out: Output) -> Report:
        report = translate(out)
        german = report.figures["languages"]["de"] | {"rejected_share": 0.1111}
        return Report(report.rows, {**report.figures, "languages": {"de": german}, "warnings": ["German (de): look at it"]})

    artifacts = whole_run(store) | {"translate": output(store, "warned", warned)}
    said = text(without_scripts(build_report(SETTINGS, artifacts)))
    assert "German (de): look at it" in said
    assert re.search(r"nothing translated pair exists German, onboarded 200 180 150 0\.1111 0\.0400 20 10", said)


def test_a_first_training_is_told(store: Store) -> None:
    """The caption of the loss names the kind of the training before, its rows and steps."""

    def begun(out: Output) -> Report:
        tapt = {"kind": "other-task", "rows": 900, "steps": 15, "final_loss": 0.4}
        return Report(train(out).rows, {"tapt": tapt})

    page = without_scripts(build_report(SETTINGS, whole_run(store) | {"train:QC": output(store, "begun", begun, "QC")}))
    assert "12,345 trained parameters. After a first training (other-task) on 900 rows in 15 steps." in text(page)


def test_the_threshold_plot_marks_what_calibration_chose(page: str) -> None:
    """The line stands at the threshold in force."""
    metrics = judge(dev_scores(), champion(), seed=1)
    (line,) = figures(page)["training-1-1"]["layout"]["shapes"]
    assert line["x0"] == line["x1"] == metrics["threshold"]


def test_a_broken_rule_stands_first_with_figure_and_bound(page: str) -> None:
    """The positive rate of 0.97 against 0.1 to 0.95 is the first rule of the window, and is said to have failed."""
    rules = text(page).partition("Rules for the window")[2]
    assert re.match(r" ✕ positive rate · QI en failed: 0\.97, allowed 0\.1 to 0\.95", rules)


def test_quarantined_rows_are_shown_with_their_rule(page: str) -> None:
    """Five of the thirty rows whose label is 7, a missing target as a dash."""
    assert text(page).count(f"label in 0 1 QC en {HOSTILE} – 7") == 5
    assert "5 of the 30 rows in quarantine" in text(page)


def test_text_of_a_log_is_shown_and_never_run(page: str) -> None:
    """A query that is markup, script and template at once comes out as the text that it is."""
    assert "<img" not in page
    assert 'onerror="' not in page
    assert HOSTILE in text(page)
    assert str(7123 * 3) not in page


def test_only_the_two_scripts_named_by_digest_may_run(store: Store) -> None:
    """The policy allows exactly the scripts that are in the page, by the digest of their text, and no address at all."""
    whole = build_report(SETTINGS, {})
    scripts = re.findall(r"<script>(.*?)</script>", whole, flags=re.S)
    allowed = re.findall(r"sha256-([^&']+)", re.search(r'Content-Security-Policy" content="([^"]+)"', whole)[1])  # type: ignore[index]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert [html.unescape(digest) for digest in allowed] == digests
    assert len(scripts) == 2
    outside = re.findall(r'(?:src|href)="(?!#)[^"]*"', without_scripts(whole))
    assert outside == []


def test_json_in_a_page_cannot_end_its_element() -> None:
    """No "<", ">" or "&" is left in it, and it still reads as the same value."""
    value = {"text": HOSTILE + "\u2028&amp;"}
    written = as_script_json(value)
    assert not set("<>&\u2028") & set(written)
    assert json.loads(written) == value


def test_a_run_that_stopped_says_why_and_shows_what_there_is(store: Store) -> None:
    """A window that broke a rule: what, where, what was expected and what to do on top; no verdict, no section of later stages."""
    failure = {
        "what": "the positive rate of QI en is 0.97",
        "where": "QI en",
        "expected": "0.1 to 0.95",
        "do": "look at the labels",
    }
    found = {"ingest": output(store, "ingest", ingest), "validate": output(store, "validate", lambda out: validate(out, failure))}
    page = without_scripts(build_report(SETTINGS, found))
    notice = text(page).partition("Published")[0]
    for part in ("The run stopped at validate", *failure.values(), "Whatever served before still serves"):
        assert part in notice
    assert notice.count("The run did not get as far as judging this task") == 2
    assert re.findall(r'<section id="([^"]+)"', page) == ["rows", "validation", "provenance"]


def test_the_first_version_has_no_champion_to_show(store: Store) -> None:
    """Without a champion the plot has two kinds of marks, and the card says that it is the first."""
    found = {"evaluate:QC": output(store, "evaluate", lambda out: evaluate(out, first=True), "QC")}
    page = without_scripts(build_report(SETTINGS, found))
    names = [trace.get("name") for trace in figures(page)["quality-1-1"]["data"]]
    assert names == ["always yes", "new version"]
    assert "first version" in text(page)


def test_the_stage_leaves_one_file_and_the_same_inputs_the_same_bytes(store: Store) -> None:
    """`report.html` is the stage's output; rendering it again gives the very same text."""
    artifacts = whole_run(store)
    found = open_artifact(store, run(SETTINGS, Inputs(artifacts), store).address)
    assert found is not None
    assert list(found.files) == ["report.html"]
    assert store.read(found.key("report.html")).decode() == build_report(SETTINGS, artifacts)


@pytest.mark.parametrize(("value", "shown"), [(None, "–"), (0.5, "0.5000"), (12345, "12,345"), ("a", "a")])
def test_cells_read_like_numbers(value: object, shown: str) -> None:
    """A count has its thousands, a score four digits, and nothing is a dash."""
    assert cell(value) == shown


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_draws_every_plot_under_the_policy(tmp_path: Path, store: Store) -> None:
    """In a real browser without a network each plot becomes a drawing, and the hostile queries run nothing."""
    (tmp_path / "report.html").write_text(build_report(SETTINGS, whole_run(store)))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=10000",
    ]
    command = ["chromium", *options, "--dump-dom", f"file://{tmp_path / 'report.html'}"]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert len(re.findall(r'class="plot js-plotly-plot', drawn)) == len(re.findall("data-figure=", drawn)) > 10
    assert "<img" not in without_scripts(drawn)
