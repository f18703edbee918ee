"""Counts of verdicts by kind, and the tables of them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.fuzzing.damage import FAULTS
from tests.support.fuzzing.forms import DELIMITED
from tests.support.fuzzing.product import SECONDS, Ask, by_command, in_process
from tests.support.fuzzing.sources import Source, confirm
from tests.support.fuzzing.verdict import FAILURES, OUTCOMES, Verdict, judge

ASKS: Final[Mapping[str, Ask]] = {"in-process": in_process, "command": by_command}
GENERATOR: Final = "the generator is at fault, not the reader"
PROGRAM: Final = (sys.executable, "-m", "tests.support.fuzzing", "run")
Result = dict[str, Any]
"""A seed's verdict with all that it is counted by, as JSON holds it."""


def run(seed: int, ask: str = "in-process") -> Result:
    """Makes, confirms, writes and judges the source of a seed."""
    source = Source(seed)
    if wrong := confirm(source):
        raise AssertionError(f"{GENERATOR}: {wrong}\n{source.describe()}")
    with tempfile.TemporaryDirectory(prefix="relevance-fuzz-") as folder:
        verdict = judge(source, source.write(Path(folder)), ASKS[ask])
    return result(source, verdict)


def result(source: Source, verdict: Verdict) -> Result:
    """Returns what is counted of a source."""
    main, kind = source.main.form, FAULTS.get(source.fault)
    return {
        "seed": source.seed,
        "fault": source.fault,
        "standing": source.standing(),
        "outcome": verdict.outcome,
        "right": verdict.right(source),
        "detail": verdict.detail[:600],
        "settings": list(verdict.settings),
        "format": f"{main.format}{'.' if main.compression else ''}{main.compression}",
        "dialect": main.dialect.name if main.format in DELIMITED else "",
        "encoding": main.encoding,
        "one": bool(kind and kind.one and source.told.get("source.bad_rows") == "quarantine"),
        "files": len(source.files),
        "rows": sum(len(file.rows) for file in source.files),
        "ms": round(1000 * verdict.seconds),
        "ledger": verdict.ledger,
    }


def watched(
    seeds: Sequence[int], ask: str = "in-process", *, patience: float = 12 * SECONDS, program: Sequence[str] = PROGRAM
) -> Iterator[Result]:
    """Runs seeds in a process of their own: a reader that hangs where no signal reaches it, or dies, costs its seed alone.

    Args:
        seeds: in their order.
        ask: in-process or command.
        patience: seconds without a result after which the process is ended.
        program: prints a result for each of the seeds that follow its words.
    """
    at, words = 0, ["--command"] if ask == "command" else []
    while at < len(seeds):
        command = [*program, *words, *map(str, seeds[at:])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            errors: list[str] = []
            reader = threading.Thread(target=lambda into=errors, of=process: into.extend(of.stderr or ()), daemon=True)
            reader.start()
            for found in _lines(process, patience):
                yield found
                at += 1
            ended = process.wait()
            reader.join(1)
        if at < len(seeds):
            last = "".join(errors)[-2000:]
            if GENERATOR in last:
                raise AssertionError(last)
            yield result(Source(seeds[at]), Verdict("hang" if ended == -9 else "traceback", f"status {ended}: {last[-500:]}"))
            at += 1


def _lines(process: subprocess.Popen[str], patience: float) -> Iterator[Result]:
    """Yields what a process prints; ends it when it prints nothing for too long."""
    assert process.stdout is not None
    while True:
        timer = threading.Timer(patience, process.kill)
        timer.start()
        line = process.stdout.readline()
        timer.cancel()
        if not line.endswith("\n"):
            return
        yield json.loads(line)


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the figures that the evidence is about, counts by kind, and the seeds that failed."""
    plain = [one for one in results if one["standing"] == "plain"]
    asked = [one for one in results if one["standing"] in {"plain", "setting", "told", "ambiguous"}]
    damaged = [one for one in results if one["fault"]]
    single = [one for one in damaged if one["one"]]
    return {
        "sources": len(results),
        "files": sum(one["files"] for one in results),
        "rows": sum(one["rows"] for one in results),
        "undamaged_plain_read": [sum(one["outcome"] == "read" for one in plain), len(plain)],
        "undamaged_read_or_settled": [sum(one["outcome"] in {"read", "settled"} for one in asked), len(asked)],
        "damaged_right": [sum(one["right"] for one in damaged), len(damaged)],
        "one_bad_line_file_refused": [sum(one["outcome"] == "refused" for one in single), len(single)],
        "outcomes": dict(Counter(one["outcome"] for one in results)),
        "failures": dict(Counter(one["outcome"] for one in results if not one["right"])),
        "told_by_a_ledger": sum(one["ledger"] for one in results),
        "ms_a_source": round(sum(one["ms"] for one in results) / max(len(results), 1), 1),
        "slowest_ms": max((one["ms"] for one in results), default=0),
        "kinds": kinds(results),
        "failing": [one["seed"] for one in results if not one["right"]],
        "first_failing": [one for one in results if not one["right"]][:20],
    }


def total(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Adds the figures of several summaries."""
    added: dict[str, Any] = {}
    for part in parts:
        for name, figure in part.items():
            if isinstance(figure, list) and name not in {"failing", "first_failing"}:
                added[name] = [one + other for one, other in zip(added.get(name, [0, 0]), figure, strict=True)]
            elif name in {"sources", "files", "rows", "told_by_a_ledger"}:
                added[name] = added.get(name, 0) + figure
            elif name in {"outcomes", "failures"}:
                added[name] = dict(Counter(added.get(name, {})) + Counter(figure))
            elif name == "slowest_ms":
                added[name] = max(added.get(name, 0), figure)
    return added


def merged(parts: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Counter[str]]]:
    """Adds the counts by kind of several summaries."""
    counts_of: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for part in parts:
        for table, lines in part["kinds"].items():
            for kind, counts in lines.items():
                counts_of[table][kind].update(counts)
    return counts_of


def kinds(results: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, int]]]:
    """Returns table → kind → outcome → sources. Undamaged sources count by format, dialect and encoding, others by fault."""
    tables: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "format": lambda one: one["format"],
        "dialect": lambda one: one["dialect"] and f"{one['dialect']}{_STANDING[one['standing']]}",
        "encoding": lambda one: one["encoding"] and f"{one['encoding']}{_STANDING[one['standing']]}",
        "standing": lambda one: one["standing"],
    }
    found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for one in results:
        if one["fault"]:
            found["fault"][one["fault"]][one["outcome"]] += 1
            continue
        for table, name in tables.items():
            if name(one):
                found[table][name(one)][one["outcome"]] += 1
    return {table: {kind: dict(counts) for kind, counts in sorted(lines.items())} for table, lines in found.items()}


_STANDING: Final = {
    "plain": "",
    "told": ", given",
    "setting": ", to be asked for",
    "ambiguous": ", two readings",
    "odd": ", odd name",
    "damaged": "",
}
_HEADS: Final = ("format", "dialect", "encoding", "fault")


def tables(counts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """Returns the Markdown tables of docs/data.md."""
    parts = []
    for head in _HEADS:
        lines = counts.get(head, {})
        used = [name for name in OUTCOMES if name not in FAILURES and (head == "fault" or name in {"read", "settled"})]
        wrong = sum(count for line in lines.values() for name, count in line.items() if name not in used)
        parts.append(f"| {head} | sources | {' | '.join(used)} |{' wrong |' if wrong else ''}")
        parts.append("|---|" + "--:|" * (1 + len(used) + bool(wrong)))
        for kind, line in sorted(lines.items()):
            row = [sum(line.values()), *(line.get(name, 0) for name in used)]
            bad = {name: count for name, count in line.items() if name not in used}
            told = ", ".join(f"{count} {name}" for name, count in bad.items())
            parts.append(f"| {kind} | {' | '.join(str(count) for count in row)} |{f' {told} |' if wrong else ''}")
        parts.append("")
    return "\n".join(parts)
