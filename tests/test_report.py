"""The HTML report, rendered from outputs made by hand: what it says, what it leaves out, and what it never lets through."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from relevance_core.config import GateSettings, build
from relevance_core.pairs import Task
from relevance_core.reporting.page import as_script_json, cell
from relevance_core.stages.base import Artifact, Inputs, Output, Report, Rows, open_artifact, stage
from relevance_core.stages.evaluate import judge
from relevance_core.stages.gate import compare, decide
from relevance_core.stages.report import build_report, run
from relevance_core.store import AdapterMeta, BaseInfo, Manifest, PromptInfo, Store, open_store
from relevance_core.store.manifest import LoraInfo

SETTINGS = build({"window": {"end": "2026-10-08"}, "onboard": ["de"]})
HOSTILE = '</script><img src=x onerror="alert(1)">{{ 7123*3 }}'


def output(store: Store, name: str, write: Callable[[Output], Report], task: Task | None = None) -> Artifact:
    """A finished output of a stage whose body is `write`."""
    made = stage(name, uses=(), by_task=task is not None)(lambda settings, inputs, out: write(out))
    found = open_artifact(store, made(SETTINGS, Inputs(task=task), store).address)
    assert found is not None
    return found


def ingest(out: Output) -> Report:
    return Report(Rows(1000, kept=980, dropped=20, reasons={"dropped: repeated": 15, "dropped: duplicate": 5}))


def validate(out: Output, failure: dict[str, str] | None = None) -> Report:
    batch = [
        ("positive_rate", "QC de", 0.6, "0.1 to 0.95"),
        ("positive_rate", "QI en", 0.97, "0.1 to 0.95"),
        ("rows", "window", 900.0, "at least 1"),
    ]
    rules: list[dict[str, Any]] = [
        {
            "rule": rule,
            "kind": "batch",
            "column": rule,
            "scope": scope,
            "figure": figure,
            "bound": bound,
            "rows": 300,
            "passed": figure != 0.97,
        }
        for rule, scope, figure, bound in batch
    ]
    rules.append(
        {
            "rule": "language_share_change",
            "kind": "batch",
            "column": "",
            "scope": "",
            "figure": None,
            "bound": "at most 0.25",
            "rows": 0,
            "passed": True,
        }
    )
    rules.append(
        {
            "rule": "label_in_0_1",
            "kind": "row",
            "column": "label",
            "scope": "rows",
            "figure": 0.0305,
            "bound": "0, 1",
            "rows": 30,
            "passed": False,
        }
    )
    out.json("rules", rules)
    row = {"pair_id": "a", "rule": "label_in_0_1", "task": "QC", "language": "en", "query": HOSTILE, "target": None, "label": 7}
    out.table("quarantine", pl.DataFrame([row] * 30, schema_overrides={"target": pl.String}))
    return Report(Rows(980, kept=950, quarantined=30, reasons={"quarantined: label_in_0_1": 30}), failure=failure)


def translate(out: Output) -> Report:
    texts = [("zapatos rojos", "rote schuhe", None), (HOSTILE, HOSTILE, "nothing translated")]
    out.table(
        "samples",
        pl.DataFrame(
            [
                {
                    "task": "QC",
                    "language": "de",
                    "source_language": "es",
                    "source_query": source,
                    "query": query,
                    "target": "Shoes",
                    "label": 1,
                    "reason": reason,
                }
                for source, query, reason in texts
            ],
            schema_overrides={"reason": pl.String},
        ),
    )
    german = {
        "why": "onboarded",
        "wanted": 200,
        "sampled": 180,
        "made": 150,
        "rejected": {"nothing translated": 20, "pair exists": 10},
        "untranslated_share": 0.04,
    }
    figures = {"translator": {"name": "glossary", "version": "0123456789ab"}, "languages": {"de": german}, "english": None}
    return Report(Rows(950, 180, 1100, 0, 30, {"dropped: nothing translated": 20, "dropped: pair exists": 10}), figures)


def mine(out: Output) -> Report:
    fates = [("usable", "Sports > Balls"), ("near duplicate", "Shoes > Men"), ("labelled", HOSTILE)]
    rows = [
        {
            "reason": reason,
            "language": "en",
            "query": "red shoes",
            "positive": "Shoes",
            "negative": name,
            "similarity": 0.8,
            "rank": n,
        }
        for n, (reason, name) in enumerate(fates)
    ]
    out.table("examples", pl.DataFrame(rows))
    excluded = {"labelled": 900, "near duplicate": 300, "related category": 2100}
    figures = {
        "enabled": True,
        "targets": 400,
        "positives": 600,
        "candidates": 12000,
        "excluded": excluded,
        "usable": 8700,
        "added": 300,
    }
    return Report(Rows(800, 300, 1100), figures)


def denoise(out: Output) -> Report:
    ledger = {
        "pair_id": "a",
        "query": HOSTILE,
        "target": "Shoes",
        "language": "en",
        "label": 1,
        "reason": "r",
        "score": 0.05,
        "action": "drop",
        "model": "m",
    }
    out.table("ledger", pl.DataFrame([ledger]))
    groups = [
        {"language": language, "label": label, "rows": 200, "contradicted": n, "acted": n}
        for language, label, n in (("de", 0, 4), ("de", 1, 12), ("en", 0, 8), ("en", 1, 24))
    ]
    figures = {
        "enabled": True,
        "mode": "out-of-fold",
        "confidence": 0.8,
        "action": "drop",
        "acted": 48,
        "by_label_and_language": groups,
    }
    return Report(Rows(1100, kept=1052, dropped=48, reasons={"dropped: contradicted": 48}), figures)


def train(out: Output) -> Report:
    loss = [{"step": step, "loss": 0.7 / step**0.3, "learning_rate": 1e-3} for step in range(10, 310, 10)]
    out.json("training", {"steps": 300, "rows": 1052, "parameters": 12345, "final_loss": 0.2, "loss": loss})
    return Report(Rows(1052, kept=1052))


def champion() -> Manifest:
    meta = AdapterMeta(
        base=BaseInfo(id="tiny"),
        prompt=PromptInfo(name="compact", version="1"),
        threshold=0.5,
        languages=("en", "es"),
        created="2026-10-07",
    )
    return Manifest.build("QC", {}, LoraInfo(r=2, alpha=4, targets=("q_proj",)), meta)


def dev_scores(rows: int = 1200, skill: float = 1.3) -> pl.DataFrame:
    """Dev rows whose candidate tells the labels apart better than its champion."""
    random = np.random.default_rng(5)
    label = random.random(rows) < 0.65
    p, old = (1 / (1 + np.exp(-strength * (2 * label - 1) - random.normal(size=rows))) for strength in (skill, 0.9))
    return pl.DataFrame(
        {
            "pair_id": [f"{n:05}" for n in range(rows)],
            "group": [f"g{n // 3}" for n in range(rows)],
            "query": [HOSTILE if n % 7 == 0 else f"query {n}" for n in range(rows)],
            "target": "Sports > Shoes",
            "language": random.choice(["en", "es", "fr", "de", "it"], rows, p=[0.4, 0.25, 0.15, 0.12, 0.08]),
            "part": np.where(np.arange(rows) // 3 % 5 < 2, "calibration", "judgement"),
            "label": label.astype(np.int8),
            "p": p,
            "champion_p": old,
        }
    )


def evaluate(out: Output, first: bool = False) -> Report:
    scores = dev_scores()
    metrics = judge(scores, None if first else champion(), seed=1)
    out.table("scores", scores)
    out.json("metrics", metrics)
    return Report(Rows(len(scores), kept=len(scores)), {name: value for name, value in metrics.items() if name != "curves"})


def gate(evaluated: Artifact, settings: GateSettings) -> Callable[[Output], Report]:
    def write(out: Output) -> Report:
        metrics = evaluated.json("metrics")
        judged = evaluated.table("scores").filter(part="judgement")
        gain = compare(judged, metrics["threshold"], 0.5, 200, seed=1)
        verdict = decide(metrics, metrics["champion"], gain, ["de"], settings)
        out.json("verdict", verdict.as_json() | {"gain": gain.as_json()})
        return Report(Rows(), {"verdict": verdict.verdict})

    return write


def publish(out: Output) -> Report:
    return Report(Rows(), {"version": "0123456789abcdef", "published": True})


def rollout(out: Output) -> Report:
    proof = {"task": "QC", "version": "0123456789abcdef", "engine": "vLLM", "where": ["http://a:1"], "pairs": 32, "largest": 2e-6}
    tasks = {"QC": {"version": "0123456789abcdef", "promoted": True, "number": 3}}
    return Report(Rows(), {"waits": "", "proofs": [proof | {"tolerance": 1e-3}], "tasks": tasks})


def whole_run(store: Store) -> dict[str, Artifact]:
    """QC published, QI held by a floor that it can't reach."""
    found = {
        name: output(store, name, body) for name, body in (("ingest", ingest), ("validate", validate), ("translate", translate))
    }
    for task, floor in (("QC", 0.5), ("QI", 0.999)):
        found |= {
            f"{name}:{task}": output(store, name, body, task)
            for name, body in (("mine", mine), ("denoise", denoise), ("train", train), ("evaluate", evaluate))
        }
        found[f"gate:{task}"] = output(store, "gate", gate(found[f"evaluate:{task}"], GateSettings(min_f1=floor)), task)
        found[f"publish:{task}"] = output(store, "publish", publish, task)
    return found | {"rollout": output(store, "rollout", rollout)}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the whole run, without the plotting library."""
    store = open_store(str(tmp_path_factory.mktemp("report")))
    return without_scripts(build_report(SETTINGS, whole_run(store)))


def without_scripts(html: str) -> str:
    return re.sub(r"<script>.*?</script>", "", html, flags=re.S)


def figures(page: str) -> dict[str, Any]:
    """Every plot of a page by its id."""
    found = re.findall(r'<script type="application/json" id="([^"]+)-figure">(.*?)</script>', page, flags=re.S)
    return {name: json.loads(text) for name, text in found}


def text(page: str) -> str:
    """What a reader sees of a page."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S))))


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
