"""`relevance cikm …`: the CIKM AnalytiCup 2025, from its files to a checked submission (docs/cikm.md)."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relevance_core.cli.outputs import output_file, output_folder
from relevance_core.cli.parsing import Commands, Parser, a_date, a_number, add_command
from relevance_core.cli.results import Part, Table, counted
from relevance_core.cli.shown import measured
from relevance_core.store import open_store

if TYPE_CHECKING:
    from relevance_core.stages.evaluate import ScoreRows

log = logging.getLogger(__name__)

Result = dict[str, Any]

CONFIDENCE: Final = 0.7
"""How probable a language must be to replace the tag `en`; docs/cikm.md has what was measured."""


def add_cikm_parser(
    subparsers: Commands,
    text: str,
    common: Parser,
    add_scoring: Callable[[argparse.ArgumentParser], None],
) -> Parser:
    """Adds `cikm` and its commands.

    Args:
        subparsers: what it is added to.
        text: what it does.
        common: the options that every command has.
        add_scoring: adds those of a version and of where it scores.
    """
    parser = add_command(subparsers, "cikm", text, "check --test test_QC.txt --submission submit_QC.txt", listed=False)
    commands: Commands = parser.add_subparsers(dest="cikm_command", required=True, metavar="COMMAND")
    machine = Parser(add_help=False)
    machine.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")

    _add_prepare(commands, machine)
    _add_predict(commands, common, add_scoring)
    _add_check(commands, machine)
    return parser


def _add_prepare(commands: Commands, machine: Parser) -> None:
    text = "clean the competition's files into logs for `retrain --source`, with a report of counts"
    command = add_command(commands, "prepare", text, "--train train_QC.txt train_QI.txt --out cikm", machine)
    command.set_defaults(show=shown_prepared)
    _add_files(command, "--train", "train files, one a task", required=True)
    _add_files(command, "--dev", "dev files, one a task; they never train")
    _add_files(command, "--test", "test files, one a task")
    command.add_argument("--out", type=output_folder, required=True, metavar="FOLDER")
    text = "the day of the train rows, which carry no time (default: %(default)s)"
    command.add_argument("--day", type=a_date, default=date(2025, 1, 1), metavar="DATE", help=text)
    _add_confidence(command)


def _add_predict(commands: Commands, common: Parser, add_scoring: Callable[[argparse.ArgumentParser], None]) -> None:
    text = "answer a test file with the champion or a version: a submission file"
    example = "--store ./store --test test_QC.txt --output submit_QC.txt"
    command = add_command(commands, "predict", text, example, common)
    command.set_defaults(show=shown_predicted)
    command.add_argument("--test", required=True, metavar="FILE")
    command.add_argument("--output", type=output_file, required=True, metavar="FILE", help="for example submit_QC.txt")
    add_scoring(command)
    _add_confidence(command)


def _add_check(commands: Commands, machine: Parser) -> None:
    text = "hold submissions against their test files; a wrong one is an error (exit status 65)"
    example = "--test test_QC.txt test_QI.txt --submission submit_QC.txt submit_QI.txt"
    command = add_command(commands, "check", text, example, machine)
    command.set_defaults(show=shown_checked)
    _add_files(command, "--test", "test files, one a task", required=True)
    _add_files(command, "--submission", "submission files, one a task", required=True)
    _add_files(command, "--labels", "test files with labels, one a task: measures F1 by task and language too")


def _add_confidence(command: argparse.ArgumentParser) -> None:
    text = "how probable another language must be to replace the tag en; above 1 never (default: %(default)s)"
    command.add_argument("--confidence", type=a_number, default=CONFIDENCE, metavar="P", help=text)


def _add_files(command: argparse.ArgumentParser, name: str, text: str, *, required: bool = False) -> None:
    command.add_argument(name, nargs="+", default=[], required=required, metavar="FILE", help=text)


def run(options: argparse.Namespace, scorer: Callable[[argparse.Namespace], ScoreRows]) -> Result:
    """Runs the parsed command. Returns one JSON-ready object.

    scorer: gives what scores rows, by the options that `add_scoring` added.
    """
    # Here, so that the other commands start without numpy and the stages.
    from relevance_core.tools import cikm

    if options.cikm_command == "prepare":
        return _prepare(options)
    if options.cikm_command == "check":
        return cikm.check(options.test, options.submission, options.labels)
    store, output = open_store(options.store), Path(options.output)
    return cikm.predict(store, options.test, output, options.version, options.confidence, scorer(options))


def shown_prepared(result: Mapping[str, Any]) -> Iterator[Part]:
    """Rows by file."""
    names = ("file", "side", "task", "rows", "kept", "dropped", "relevant")
    yield Table(names, [tuple(of[name] for name in names) for of in result["files"]])


def shown_predicted(result: Mapping[str, Any]) -> Iterator[Part]:
    """Shows the number of answers and the file that holds them."""
    yield f"{counted(result['rows'], 'row')} of {result['task']} answered by {result['version']} ({result['role']})"
    yield f"{result['relevant']} relevant at the threshold {result['threshold']:.4f}"
    yield f"written: {result['output']}"


def shown_checked(result: Mapping[str, Any]) -> Iterator[Part]:
    """The submissions that are right; with labels, F1 by task and language."""
    columns = ("task", "submission", "rows", "answered 1")
    yield Table(columns, [(task, of["submission"], of["rows"], of["relevant"]) for task, of in result["tasks"].items()])
    for task, of in result["tasks"].items():
        if "f1" in of:
            yield ""
            names = ("rows", "positives", "f1", "precision", "recall", "always_yes_f1")
            yield measured(task, [("all", of), *of["per_language"].items()], names)
    if result["average_f1"] is not None:
        yield ""
        yield f"average of the F1 of both tasks: {result['average_f1']:.4f}"


def _prepare(options: argparse.Namespace) -> Result:
    from relevance_core.tools import cikm

    report = cikm.prepare(options.train, options.dev, options.test, Path(options.out), options.day, options.confidence)
    end = options.day + timedelta(days=1)
    log.info("next: relevance retrain --source %s --window-end %s", options.out, end)
    return report
