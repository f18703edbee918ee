"""The results of the loop's and the models' commands as people read them; `--json` prints the same results whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from relevance_core.cli.results import Part, Result, Table, counted
from relevance_core.runs.approval import NEEDED

_FATES: Final = ("in", "made", "kept", "quarantined", "dropped")
_MEASURED: Final = {
    "rows": "rows",
    "positives": "relevant",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "auc": "AUC",
    "always_yes_f1": "always yes",
}
"""Figures of `metrics.measure` → the names of their columns."""


def simulate(result: Result) -> Iterator[Part]:
    """Rows by table."""
    yield Table(("simulated", "number"), list(result.items()))


def retrain(result: Result) -> Iterator[Part]:
    """Verdicts and figures by task, rows by stage, and where the report is."""
    yield f"run {result['run_id']}"
    tasks: Mapping[str, Any] = result["tasks"]
    if tasks:
        yield ""
        yield Table(
            ("task", "verdict", "version", "serves", "F1", "always yes", "why it does not serve"),
            [
                (task, of["verdict"], of["version"], of["promoted"], of["f1"], of["always_yes_f1"], of["why"])
                for task, of in tasks.items()
            ],
            frozenset(("why it does not serve",)),
        )
    if result["rows"]:
        yield ""
        yield _rows(("stage",), [((stage,), rows) for stage, rows in result["rows"].items()])
    yield ""
    for task, of in tasks.items():
        if of["verdict"] == NEEDED and not of["promoted"]:
            yield f"to let {task} serve: relevance registry promote {task}={of['version']} --why …"
    if result["report"]:
        yield f"report: {result['report']}"


def stage(result: Result) -> Iterator[Part]:
    """A stage's rows and its plain figures; of *begin*, what the run is."""
    if "stage" not in result:
        yield f"run {result['run_id']}"
        rows = [(task, result["champion"].get(task), " ".join(result["onboarded"]) or None) for task in result["tasks"]]
        yield Table(("task", "champion", "onboarded"), rows)
        return
    found = "found" if result["found"] else "made"
    yield _rows(("stage", "task", "output"), [((result["stage"], result["task"], found), result["rows"])])
    figures = [(name, value) for name, value in result["figures"].items() if isinstance(value, str | int | float) and value != ""]
    if figures:
        yield ""
        yield Table(("figure", "value"), [(name, _figure(value)) for name, value in figures], frozenset(("value",)))
    yield ""
    yield f"output: {result['address']}"


def report(result: Result) -> Iterator[Part]:
    """The report's address, alone, for `$(…)`."""
    yield str(result["report"])


def evaluate(result: Result) -> Iterator[Part]:
    """The figures over all rows, by language, and over the rows whose query the version has not seen."""
    yield f"{result['task']} {result['version']} ({result['role']}) at the threshold {result['threshold']:.4f}"
    lines = [("all", result), *result["per_language"].items()]
    if result["unseen"]:
        lines.append(("unseen queries", result["unseen"]))
    yield measured("language", lines)


def score(result: Result) -> Iterator[Part]:
    """Shows the number of scored pairs and the file that holds them."""
    yield f"{counted(result['rows'], 'pair')} of {result['task']} scored by {result['version']} ({result['role']})"
    yield f"{result['relevant']} relevant at the threshold {result['threshold']:.4f}"
    yield f"written: {result['output']}"


def ready(result: Result) -> Iterator[Part]:
    """The server, its base, and the adapters that it has loaded."""
    yield f"{result['endpoint']} is healthy, with the base {result['base']}"
    if result["adapters"]:
        yield Table(("adapter",), [(name,) for name in result["adapters"]])


def nothing(result: Result) -> Iterator[Part]:
    """No line: the command has written its result while it ran."""
    return iter(())


def measured(first: str, lines: Sequence[tuple[str, Mapping[str, Any]]], names: Sequence[str] = tuple(_MEASURED)) -> Table:
    """A table of the figures of `metrics.measure`.

    Args:
        first: the name of the first column.
        lines: its cell and the figures of each row.
        names: the figures that it shows.
    """
    rows = [(cell, *(figures[name] for name in names)) for cell, figures in lines]
    return Table((first, *(_MEASURED[name] for name in names)), rows)


def _rows(first: Sequence[str], lines: Sequence[tuple[Sequence[object], Mapping[str, Any]]]) -> Table:
    return Table((*first, *_FATES), [(*cells, *(rows.get(fate) for fate in _FATES)) for cells, rows in lines])


def _figure(value: object) -> str:
    """A figure as text, so that whole numbers, fractions and words stand in one column."""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


_LISTED: Final = 50


def check(result: Result) -> Iterator[Part]:
    """The files of a source, its rows by task and language, the rules that rows break, and what stops a run."""
    read = [file for file in result["files"] if file["why"] is None]
    skipped = [file for file in result["files"] if file["why"] is not None]
    yield f"{result['source']}: {counted(len(read), 'file')} read, {len(skipped)} skipped, {len(result['refused'])} refused"
    yield from _files(read)
    if skipped:
        yield ""
        yield Table(["skipped", "reason"], [(file["file"], file["why"]) for file in skipped[:_LISTED]], frozenset({"reason"}))
        yield from _more(skipped)
    yield ""
    columns = ["task", "language", "rows", "label_1", "label_0", "quarantined"]
    yield Table(columns, [[row[name] for name in columns] for row in result["counts"]])
    if result["rules"]:
        yield ""
        rows = [
            (rule["rule"], rule["rows"], f"{one['file']}, line {one['line']}", one["why"] or one["query"])
            for rule in result["rules"]
            for one in rule["examples"]
        ]
        yield Table(["broken rule", "rows", "for example", "value"], rows, frozenset({"for example", "value"}))
    yield ""
    for error in result["stops"]:
        yield f"stops a run: {error['what']}; where: {error['where']}; expected: {error['expected']}; what to do: {error['do']}"
    if result["ready"]:
        yield "a run reads this source"


def _files(read: Sequence[Mapping[str, Any]]) -> Iterator[Part]:
    def form(file: Mapping[str, Any]) -> str:
        escape = file["escape"] and f"quotes by {file['escape']}"
        delimiter = file["delimiter"] and {"\t": "tab"}.get(file["delimiter"], file["delimiter"])
        return " ".join(filter(None, (file["format"], file["compression"], file["encoding"], delimiter, escape)))

    rows = [
        (file["file"], form(file), file["rows"], file["unread"], file["quarantined"], file["ignored"] or "")
        for file in read[:_LISTED]
    ]
    yield Table(["file", "read as", "rows", "unread", "quarantined", "columns not read"], rows, frozenset({"columns not read"}))
    yield from _more(read)


def _more(files: Sequence[object]) -> Iterator[Part]:
    if len(files) > _LISTED:
        yield f"and {len(files) - _LISTED} more; --json lists all"
