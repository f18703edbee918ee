"""Approvals: what a person is asked, the record of the answer, and whose version *rollout* lets serve."""

from __future__ import annotations

import json

import pytest

from relevance_core import loop
from relevance_core.errors import Conflict
from relevance_core.runs import approval
from relevance_core.runs.approval import Approval, approvals, question, record
from relevance_core.store import Store
from tests.support.gate_cases import METRICS, VERDICT, YES, judged
from tests.support.stage_cases import artifact


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (YES, "approved by ada: seen by hand"),
        (YES._replace(approved=False, why=""), "not approved by ada"),
        (
            YES._replace(approved=False, who="", why="nobody answered within 12 hours"),
            "not approved: nobody answered within 12 hours",
        ),
    ],
)
def test_an_answer_in_words(answer: Approval, expected: str) -> None:
    """What was decided, by whom if by anybody, and why if that was said."""
    assert answer.told() == expected


def test_the_first_answer_stands(store: Store) -> None:
    """The same answer again changes nothing; another one is refused with what stands, and how to let the version serve."""
    no = YES._replace(approved=False)
    record(store, "run", no)
    record(store, "run", no)
    record(store, "run", YES._replace(task="QI"))
    with pytest.raises(Conflict, match=r"not approved by ada: seen by hand.*relevance registry promote QC=0a1b2c3d"):
        record(store, "run", YES)
    assert approvals(store, "run") == {"QC": no, "QI": YES._replace(task="QI")}
    assert approvals(store, "another run") == {}
    assert json.loads(store.read(f"runs/run/approval-qc-{no.version}.json")) == no._asdict()


def test_another_version_is_asked_about_anew(store: Store) -> None:
    """An answer about one version is none about the next that the run trains; the later answer counts."""
    no = YES._replace(version="ffffffff", approved=False, at="2026-11-20T21:00:00+00:00")
    record(store, "run", no)
    record(store, "run", YES)
    assert approvals(store, "run") == {"QC": no}


def test_the_question_shows_the_gates_table() -> None:
    """What failed comes first, figures beside bounds, and no text of a reason is Markdown, HTML or a cell of its own."""
    asked = question("QC", "0a1b2c3d", VERDICT, METRICS, 12)
    assert asked.subject.startswith("May QC 0a1b2c3d serve? de comes in")
    lines = asked.body.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[2] == "| evidence in de | **FAILED** | 3 | 30 | de comes in \\| with \\<b\\>3\\</b\\> rows \\# 30 wanted |"
    assert table[3] == "| floor | passed | 0.9123 | 0.6000 | F1 0.9123, at least 0.6000 wanted |"
    assert table[6:] == ["| de | 3 | 0.8000 | – | – |", "| en | 100 | 0.9300 | 0.9000 | +0.0300 |"]
    assert "within 12 hours" in lines[0]


def test_the_question_of_a_first_version_has_no_champion() -> None:
    """Without a champion there is nothing to compare with."""
    asked = question("QC", "0a1b2c3d", VERDICT, METRICS | {"champion": None}, 0.5)
    assert "| en | 100 | 0.9300 | – | – |" in asked.body
    assert "within 0.5 hours" in asked.body


@pytest.mark.parametrize(("verdict", "asks"), [("publish", False), ("hold", False), ("needs-approval", True)])
def test_who_has_to_be_asked(store: Store, verdict: str, asks: bool) -> None:
    """A person is asked where the gate leaves it to one, until somebody has answered."""
    run = judged(store, "QC", verdict)
    asked = run.question("QC")
    assert (asked is not None) is asks
    if asked:
        assert asked.version == YES.version
        record(store, run.run_id, YES)
        assert approval.approvals(store, run.run_id) == {"QC": YES}
        assert run.question("QC") is None


@pytest.mark.parametrize(
    ("failed", "waits", "promoted", "why"),
    [
        ([], "", True, ""),
        (["floor", "loss in pt"], "", False, "floor; loss in pt"),
        ([], "the tasks would stand on different bases", False, "the tasks would stand on different bases"),
    ],
)
def test_a_result_says_why_a_version_does_not_serve(store: Store, failed: list[str], waits: str, promoted: bool, why: str) -> None:
    """The gate's rules that failed, else what *rollout* waits for; nothing of a version that serves."""
    tasks = {} if failed else {"QC": {"version": YES.version, "promoted": promoted, "number": 1 if promoted else None}}
    outputs = {
        "gate:QC": artifact(store, "gate", {}, figures={"verdict": "hold", "failed": failed}),
        "rollout": artifact(store, "rollout", {}, figures={"waits": waits, "tasks": tasks}),
    }
    assert loop._served(outputs, "QC", YES.version) == {"promoted": promoted, "number": 1 if promoted else None, "why": why}
