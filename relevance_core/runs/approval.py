"""A person's answer to a verdict that needs approval: the question shown to them, and the record that *rollout* obeys.

An answer is a record in the run's folder, created once: the first answer stands, even if the question is asked again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from relevance_core.config import Task
from relevance_core.errors import Conflict
from relevance_core.runs import folder

if TYPE_CHECKING:
    from relevance_core.store import Store

NEEDED: Final = "needs-approval"
"""The verdict that becomes a release only with a person's approval."""

_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>|~#])")


class Approval(NamedTuple):
    """The answer about a version. who: a name, empty where nobody answered in time. at: ISO 8601, UTC."""

    task: Task
    version: str
    approved: bool
    who: str
    at: str
    why: str = ""

    def told(self) -> str:
        """The answer in words: `approved by ada: reviewed by hand`."""
        decision = "approved" if self.approved else "not approved"
        return f"{decision}{f' by {self.who}' if self.who else ''}{f': {self.why}' if self.why else ''}"


class Question(NamedTuple):
    """The question about a version: a line, and a Markdown text to decide by."""

    version: str
    subject: str
    body: str


def record(store: Store, run_id: str, answer: Approval) -> None:
    """Stores an answer; recording the same answer again changes nothing. Raises Conflict where a different answer exists."""
    name = f"{folder.ANSWER}-{answer.task.lower()}-{answer.version}"
    if folder.create(store, run_id, name, answer._asdict()):
        return
    standing = Approval(**folder.read(store, run_id, name))
    if standing != answer:
        raise Conflict(
            f"{answer.task} of run {run_id} was answered before: {standing.told()}",
            where=store.uri_of(folder.key_of(run_id, name)),
            expected="one answer a version",
            do=f"to let it serve all the same, `relevance registry promote {answer.task}={answer.version} --why …`",
        )


def approvals(store: Store, run_id: str) -> dict[Task, Approval]:
    """Returns the latest answer of each task in a run."""
    names = [name for name in folder.entries(store, run_id) if is_answer(name)]
    return latest(Approval(**folder.read(store, run_id, name)) for name in names)


def is_answer(record: str) -> bool:
    """Tells a run's record that holds an answer from its other records."""
    return record.startswith(f"{folder.ANSWER}-")


def waits(verdict: object, version: str, answer: Approval | None, ended: bool = False) -> bool:
    """Tells whether a version waits for a person: the one rule for the DAG's question, the pages and the overview.

    Args:
        verdict: the gate's verdict.
        version: the version that the gate judged; empty where it is not known, and then any answer counts.
        answer: the latest answer about the task, if there is one.
        ended: the run has reached its rollout or report, so that an answer would come too late.
    """
    answered = answer is not None and version in ("", answer.version)
    return verdict == NEEDED and not answered and not ended


def latest(answers: Iterable[Approval]) -> dict[Task, Approval]:
    """Returns each task's valid answer: the latest, since a task that was trained anew is asked about again."""
    return {answer.task: answer for answer in sorted(answers, key=lambda answer: answer.at)}


def question(task: Task, version: str, verdict: Mapping[str, Any], metrics: Mapping[str, Any], hours: float) -> Question:
    """Builds the question about a version.

    Args:
        task: QC or QI.
        version: the version that waits.
        verdict: the gate's `verdict.json`.
        metrics: *evaluate*'s `metrics.json`.
        hours: longest wait for an answer.
    """
    missing = [reason for reason in verdict["reasons"] if not reason["passed"]]
    subject = f"May {task} {version} serve? {'; '.join(reason['text'] for reason in missing)}"
    body = [
        f"The gate found nothing against **{task} {version}** but too little evidence. *Approve* lets it serve; *Reject*, or no "
        f"answer within {hours:g} hours, leaves what serves now.",
        "",
        *_rules(verdict["reasons"]),
        "",
        *_languages(metrics),
    ]
    return Question(version, subject, "\n".join(body))


def _rules(reasons: list[Mapping[str, Any]]) -> Iterator[str]:
    """Yields the gate's table, failed rules first."""
    yield "| rule | | figure | bound | in words |"
    yield "|---|---|--:|--:|---|"
    for reason in sorted(reasons, key=lambda reason: bool(reason["passed"])):
        passed = "passed" if reason["passed"] else "**FAILED**"
        numbers = f"{_number(reason['figure'])} | {_number(reason['bound'])}"
        yield f"| {_literal(reason['rule'])} | {passed} | {numbers} | {_literal(reason['text'])} |"


def _languages(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yields F1 by language, new version against champion."""
    champion = (metrics["champion"] or {}).get("per_language", {})
    yield "| language | judgement rows | F1 of the new version | of the champion | change |"
    yield "|---|--:|--:|--:|--:|"
    for language, new in sorted(metrics["per_language"].items()):
        old = champion.get(language)
        against = f"{old['f1']:.4f} | {new['f1'] - old['f1']:+.4f}" if old else "– | –"
        yield f"| {_literal(language)} | {new['rows']} | {new['f1']:.4f} | {against} |"


def _number(value: float) -> str:
    return f"{value}" if isinstance(value, int) else f"{value:.4f}"


def _literal(text: str) -> str:
    """Escapes a text for a cell of a Markdown table."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
