"""A person's answer where the gate asks for one: what is shown to them, and the record that *rollout* goes by.

An answer is one object, `runs/<run id>/approval-<task>-<version>.json`, created once: the first one stands, whatever is asked again
later.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from relevance_core.config import Task
from relevance_core.errors import Conflict

if TYPE_CHECKING:
    from relevance_core.store import Store

NEEDED: Final = "needs-approval"
"""The verdict that only a person can turn into a release."""

_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>|~#])")


class Approval(NamedTuple):
    """What was answered about a version. who: a name, empty where nobody answered in time. at: ISO 8601, UTC."""

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
    """What a person is asked about a version: a line, and a Markdown text to decide by."""

    version: str
    subject: str
    body: str


def record(store: Store, run_id: str, answer: Approval) -> None:
    """Keeps an answer; the same one again changes nothing. Raises Conflict where another answer stands already."""
    key = f"runs/{run_id}/approval-{answer.task.lower()}-{answer.version}.json"
    if store.create(key, json.dumps(answer._asdict(), indent=1, sort_keys=True).encode()):
        return
    standing = _read(store, key)
    if standing != answer:
        raise Conflict(
            f"{answer.task} of run {run_id} was answered before: {standing.told()}",
            where=store.uri_of(key),
            expected="one answer a version",
            do=f"to let it serve all the same, `relevance registry promote {answer.task}={answer.version} --why …`",
        )


def approvals(store: Store, run_id: str) -> dict[Task, Approval]:
    """The answers that a run has by now."""
    return latest(_read(store, entry.key) for entry in store.list(f"runs/{run_id}/approval-"))


def latest(answers: Iterable[Approval]) -> dict[Task, Approval]:
    """The answer that counts for each task: of one that was trained anew, and asked about again, the latest."""
    return {answer.task: answer for answer in sorted(answers, key=lambda answer: answer.at)}


def question(task: Task, version: str, verdict: Mapping[str, Any], metrics: Mapping[str, Any], hours: float) -> Question:
    """The question about a version.

    verdict: the gate's `verdict.json`. metrics: *evaluate*'s `metrics.json`. hours: how long an answer is waited for.
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
    """The gate's table: the failed rules first."""
    yield "| rule | | figure | bound | in words |"
    yield "|---|---|--:|--:|---|"
    for reason in sorted(reasons, key=lambda reason: bool(reason["passed"])):
        passed = "passed" if reason["passed"] else "**FAILED**"
        numbers = f"{_number(reason['figure'])} | {_number(reason['bound'])}"
        yield f"| {_literal(reason['rule'])} | {passed} | {numbers} | {_literal(reason['text'])} |"


def _languages(metrics: Mapping[str, Any]) -> Iterator[str]:
    """F1 by language, new against champion."""
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
    """A text as it is, in a cell of a Markdown table."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _read(store: Store, key: str) -> Approval:
    return Approval(**json.loads(store.read(key)))
