"""`relevance cikm …`: the CIKM AnalytiCup 2025, from its files to a checked submission (docs/cikm.md)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relevance_core.store import open_store

if TYPE_CHECKING:
    from relevance_core.stages.evaluate import ScoreRows

Say = Callable[[str], None]
Result = dict[str, Any]

CONFIDENCE: Final = 0.7
"""How probable a language must be to replace the tag `en`; docs/cikm.md has what was measured."""


def add_cikm_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
    add_scoring: Callable[[argparse.ArgumentParser], None],
) -> argparse.ArgumentParser:
    """Adds `cikm` and its commands. `common` holds the options that every command has; `add_scoring` adds those of a version."""
    parser = subparsers.add_parser("cikm", help="the CIKM AnalytiCup 2025: its files, a submission, its check", description=__doc__)
    commands = parser.add_subparsers(dest="cikm_command", required=True, metavar="COMMAND")
    machine = argparse.ArgumentParser(add_help=False)
    machine.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")

    def command(name: str, text: str, parent: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[parent])

    preparing = command(
        "prepare", "clean the competition's files into logs for `retrain --source`, with a report of counts", machine
    )
    _add_files(preparing, "--train", "train files, one a task", required=True)
    _add_files(preparing, "--dev", "dev files, one a task; they never train")
    _add_files(preparing, "--test", "test files, one a task")
    preparing.add_argument("--out", required=True, metavar="FOLDER")
    preparing.add_argument(
        "--day",
        type=date.fromisoformat,
        default=date(2025, 1, 1),
        metavar="DATE",
        help="the day of the train rows, which carry no time (default: %(default)s)",
    )

    predicting = command("predict", "answer a test file with the champion or a version: a submission file", common)
    predicting.add_argument("--test", required=True, metavar="FILE")
    predicting.add_argument("--output", required=True, metavar="FILE", help="for example submit_QC.txt")
    add_scoring(predicting)
    for cleaning in (preparing, predicting):
        cleaning.add_argument(
            "--confidence",
            type=float,
            default=CONFIDENCE,
            metavar="P",
            help="how probable another language must be to replace the tag en; above 1 never (default: %(default)s)",
        )

    checking = command("check", "hold submissions against their test files; a wrong one is an error (exit status 65)", machine)
    _add_files(checking, "--test", "test files, one a task", required=True)
    _add_files(checking, "--submission", "submission files, one a task", required=True)
    _add_files(checking, "--labels", "test files with labels, one a task: measures F1 by task and language too")
    return parser


def _add_files(command: argparse.ArgumentParser, name: str, text: str, *, required: bool = False) -> None:
    command.add_argument(name, nargs="+", default=[], required=required, metavar="FILE", help=text)


def run(options: argparse.Namespace, scorer: Callable[[argparse.Namespace], ScoreRows], say: Say) -> Result:
    """Runs the parsed command: text for people goes to `say`, the result is one JSON-ready object.

    scorer: gives what scores rows, by the options that `add_scoring` added.
    """
    # Here, so that the other commands start without numpy and the stages.
    from relevance_core.tools import cikm

    if options.cikm_command == "prepare":
        return _prepare(options, say)
    if options.cikm_command == "check":
        return cikm.check(options.test, options.submission, options.labels)
    store, output = open_store(options.store), Path(options.output)
    return cikm.predict(store, options.test, output, options.version, options.confidence, scorer(options))


def _prepare(options: argparse.Namespace, say: Say) -> Result:
    from relevance_core.tools import cikm

    report = cikm.prepare(options.train, options.dev, options.test, Path(options.out), options.day, options.confidence)
    say(f"next: relevance retrain --source {options.out} --window-end {options.day + timedelta(days=1)}")
    return report
