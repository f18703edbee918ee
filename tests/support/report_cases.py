"""The outputs of a whole run, made by hand, and a rendered page as its reader sees it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from relevance_core.config import GateSettings, build
from relevance_core.pairs import Task
from relevance_core.registry import AdapterMeta, BaseInfo, Manifest, PromptInfo
from relevance_core.registry.manifest import LoraInfo
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.stages.evaluate import judge
from relevance_core.stages.gate import compare, decide
from relevance_core.store import Store

SETTINGS = build({"window": {"end": "2026-10-08"}, "onboard": ["de"]})
HOSTILE = '</script><img src=x onerror="alert(1)">{{ 7123*3 }}'


def output(store: Store, name: str, write: Callable[[Output], Report], task: Task | None = None) -> Artifact:
    """A finished output of a stage whose body is `write`."""
    made = stage(name, uses=())(lambda settings, inputs, out: write(out))
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
    floors: dict[Task, float] = {"QC": 0.5, "QI": 0.999}
    for task, floor in floors.items():
        found |= {
            f"{name}:{task}": output(store, name, body, task)
            for name, body in (("mine", mine), ("denoise", denoise), ("train", train), ("evaluate", evaluate))
        }
        found[f"gate:{task}"] = output(store, "gate", gate(found[f"evaluate:{task}"], GateSettings(min_f1=floor)), task)
        found[f"publish:{task}"] = output(store, "publish", publish, task)
    return found | {"rollout": output(store, "rollout", rollout)}


def without_scripts(html: str) -> str:
    return re.sub(r"<script>.*?</script>", "", html, flags=re.S)


def figures(page: str) -> dict[str, Any]:
    """Every plot of a page by its id."""
    found = re.findall(r'<script type="application/json" id="([^"]+)-figure">(.*?)</script>', page, flags=re.S)
    return {name: json.loads(text) for name, text in found}


def text(page: str) -> str:
    """What a reader sees of a page."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S))))
