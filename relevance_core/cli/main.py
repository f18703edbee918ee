"""Arguments, settings and errors of the command line; the work is done elsewhere."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, cast

from relevance_core import config, loop
from relevance_core.cli import ablate as ablate_cli
from relevance_core.cli import cikm as cikm_cli
from relevance_core.cli import registry as registry_cli
from relevance_core.cli import review as review_cli
from relevance_core.cli.console import log_to_stderr
from relevance_core.cli.serving import add_serving_parsers
from relevance_core.config import Settings
from relevance_core.errors import RelevanceError, SettingsError
from relevance_core.pairs import Task
from relevance_core.processes import collect_rarely
from relevance_core.registry import Manifest, Registry, Release
from relevance_core.registry.signing import Key
from relevance_core.runs import folder
from relevance_core.runs.approval import NEEDED
from relevance_core.runs.run import open_run
from relevance_core.runs.steps import BEGIN, REPORT, STEPS
from relevance_core.store import open_store

if TYPE_CHECKING:
    from polars import DataFrame, Series

    from relevance_core.stages.evaluate import ScoreRows

STORELESS = ("simulate", "settings", "ready")
"""The commands that work without a store."""

_STARTED = time.monotonic()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit status: 0, or the `exit_code` of the error whose message stands on stderr."""
    options = build_parser().parse_args(arguments)
    log_to_stderr()
    collect_rarely()
    # Torch reads these when it is imported: idle threads must not spin beside another process's work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        if getattr(options, "store", None) == "" and options.command not in STORELESS:
            raise SettingsError(
                "no store is named", where="--store", expected="a folder or s3://bucket/prefix", do="or set RELEVANCE_STORE"
            )
        result = options.run(options)
    except RelevanceError as error:
        say(f"relevance {options.command}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say(f"relevance {options.command}: interrupted; finished stages are kept, the same command goes on from there")
        return 130
    if options.json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
    return 0


def say(text: str) -> None:
    """One line of progress on stderr, with the seconds since the command began."""
    sys.stderr.write(f"[{time.monotonic() - _STARTED:7.1f} s] {text}\n")
    sys.stderr.flush()


def build_parser() -> argparse.ArgumentParser:
    """The parser of `relevance` with all its commands."""
    common = argparse.ArgumentParser(add_help=False)
    group = common.add_argument_group("common")
    group.add_argument(
        "--store",
        default=os.environ.get("RELEVANCE_STORE", ""),
        metavar="URI",
        help="object store: a path, file:///path or s3://bucket/prefix (default: $RELEVANCE_STORE)",
    )
    group.add_argument("--settings", metavar="FILE", help="settings file, TOML or YAML (docs/settings.md)")
    group.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, e.g. --set train.epochs=1")
    group.add_argument("--json", action="store_true", help="print one JSON object as the last line of stdout")
    parser = argparse.ArgumentParser(prog="relevance", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], Any], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        command.set_defaults(run=run)
        return command

    _add_loop(add)
    _add_models(add)
    add_serving_parsers(add)
    registry_cli.add_registry_parser(commands, common).set_defaults(run=_registry)
    review_cli.add_review_parser(commands, common).set_defaults(run=lambda options: review_cli.run(options, say))
    cikm_cli.add_cikm_parser(commands, common, _add_scoring).set_defaults(run=lambda options: cikm_cli.run(options, _scorer, say))
    commands.add_parser("settings", help="print every setting, its default and its meaning").set_defaults(
        run=_settings_page, json=False
    )
    return parser


def _add_loop(add: Callable[..., argparse.ArgumentParser]) -> None:
    command = add("simulate", _simulate, "write days of the simulated marketplace: logs, clicks, catalogue, glossary, truth")
    command.add_argument("--out", required=True, metavar="FOLDER")
    command.add_argument("--start", type=_date, default=date(2026, 10, 1), metavar="DATE", help="first day (default: %(default)s)")
    command.add_argument("--days", type=int, default=7)
    command.add_argument("--seed", type=int, default=17)

    command = add("retrain", _retrain, "run the whole loop: from labelled logs to a gated, published adapter for each task")
    _add_rows(command)
    command.add_argument("--run-id", default="", help="default: a digest of the settings and the source's content")
    command.add_argument("--dry-run", action="store_true", help="stop before a model is built, with the report")

    command = add("ablate", _ablate, "measure what each strategy adds, with intervals; nothing that it trains can serve")
    _add_rows(command)
    ablate_cli.add_options(command)

    command = add("stage", _stage, "run one stage of a run, as a task of the DAG does")
    command.add_argument("name", metavar="NAME", help=", ".join(step.name for step in (BEGIN, *STEPS, REPORT)))
    command.add_argument("--run", dest="run_id", required=True, metavar="RUN_ID")
    command.add_argument("--task", choices=["QC", "QI"])
    command.add_argument("--dag-run", default="", metavar="ID", help="begin: Airflow's name of the run")

    command = add("report", _report, "write the HTML report of a run as far as it is")
    command.add_argument("run_id", metavar="RUN")
    command.add_argument("--output", metavar="FILE", help="copy the report there")


def _add_rows(command: argparse.ArgumentParser) -> None:
    """Which rows the loop runs on."""
    command.add_argument("--source", metavar="URI", help="labelled logs: a folder of dt=YYYY-MM-DD partitions or a file")
    command.add_argument("--window-end", type=_date, metavar="DATE", help="end of the window, exclusive (UTC)")
    command.add_argument("--onboard", action="append", default=[], metavar="LANG", help="bring in a language; may be repeated")
    command.add_argument("--tasks", metavar="QC,QI")


def _add_models(add: Callable[..., argparse.ArgumentParser]) -> None:
    command = add("evaluate", _evaluate, "F1 of the champion or a version, at its own threshold, on any labelled file")
    command.add_argument("--task", choices=["QC", "QI"], required=True)
    command.add_argument("--data", required=True, metavar="FILE")
    command.add_argument("--version", help="a version's id or its first letters (default: the champion)")

    command = add("score", _score, "p(yes) and the decision for every pair of a file")
    command.add_argument("--task", choices=["QC", "QI"], required=True)
    command.add_argument("--input", required=True, metavar="FILE")
    command.add_argument("--output", required=True, metavar="FILE", help=".parquet, .jsonl or .csv")
    _add_scoring(command)


def _add_scoring(command: argparse.ArgumentParser) -> None:
    command.add_argument("--version", help="a version's id or its first letters (default: the champion)")
    command.add_argument(
        "--engine",
        choices=["transformers", "vllm"],
        default="transformers",
        help="score here, or on servers (default: %(default)s)",
    )
    command.add_argument(
        "--endpoint",
        action="append",
        default=[],
        metavar="URL",
        help="vLLM server; may be repeated (default: those that are known)",
    )


def _settings_page(options: argparse.Namespace) -> None:
    from relevance_core.config.table import as_markdown

    sys.stdout.write(as_markdown())


def _settings(options: argparse.Namespace) -> Settings:
    return config.load(options.settings, options.set, os.environ)


def _simulate(options: argparse.Namespace) -> dict[str, Any]:
    from pathlib import Path

    from relevance_core.tools.simulator.market import Market, write

    say(f"simulating {options.days} days from {options.start} into {options.out}")
    return dict(write(Market(seed=options.seed), options.start, options.days, Path(options.out)))


def _ablate(options: argparse.Namespace) -> dict[str, Any]:
    return ablate_cli.run(options, _loop_settings(options), open_store(options.store), say)


def _loop_settings(options: argparse.Namespace) -> Settings:
    """The settings with what the options of `_add_rows` say."""
    overrides = list(options.set)
    overrides += [f"source.uri={options.source}"] if options.source else []
    overrides += [f"window.end={options.window_end:%Y-%m-%d}"] if options.window_end else []
    overrides += [f"onboard={','.join(options.onboard)}"] if options.onboard else []
    overrides += [f"tasks={options.tasks}"] if options.tasks else []
    return config.load(options.settings, overrides, os.environ)


def _retrain(options: argparse.Namespace) -> dict[str, Any]:
    settings = _loop_settings(options)
    result = loop.retrain(settings, open_store(options.store), options.run_id, dry_run=options.dry_run)
    _print_result(result)
    return result


def _stage(options: argparse.Namespace) -> dict[str, Any]:
    store = open_store(options.store)
    if options.name == "begin":
        run = loop.begin(_settings(options), store, options.run_id, options.dag_run)
        about = {"run_id": run.run_id, "tasks": list(run.settings.tasks), "champion": run.champion, "onboarded": run.onboarded}
        return about | {"plan": folder.read(store, run.run_id, folder.PLAN)}
    run = open_run(store, options.run_id, _settings(options))
    return loop.run_stage(run, options.name, cast("Task | None", options.task)).as_json()


def _report(options: argparse.Namespace) -> dict[str, Any]:
    from pathlib import Path

    run = open_run(open_store(options.store), options.run_id, _settings(options))
    loop.run_stage(run, "report")
    report = run.artifact("report")
    if options.output:
        Path(options.output).write_bytes(run.store.read(report.key("report.html")))
    where = options.output or run.store.uri_of(report.key("report.html"))
    say(f"report: {where}")
    return {"run_id": run.run_id, "report": where}


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
    from relevance_core.stages.evaluate import evaluate_file

    return evaluate_file(open_store(options.store), options.task, options.data, options.version, _settings(options))


def _score(options: argparse.Namespace) -> dict[str, Any]:
    from relevance_core.stages.evaluate import score_file

    store, score = open_store(options.store), _scorer(options)
    return score_file(store, options.task, options.input, options.output, options.version, score)


def _scorer(options: argparse.Namespace) -> ScoreRows:
    """What scores rows under a version, by the options of `_add_scoring`."""
    from relevance_core.serving.bulk import score_rows
    from relevance_core.stages.evaluate import score_with

    store, settings = open_store(options.store), _settings(options)
    if options.endpoint and options.engine != "vllm":
        raise SettingsError("--endpoint is for --engine vllm", where="--engine", expected="vllm")

    def score(version: Manifest, rows: DataFrame) -> Series:
        if options.engine == "vllm":
            return score_rows(store, version, rows, options.endpoint, settings.serving)
        return score_with(store, version, rows, settings)

    return score


def _registry(options: argparse.Namespace) -> dict[str, Any]:
    settings = _settings(options)

    def serve(registry: Registry, versions: Mapping[str, str], move: Callable[[], Release]) -> Release:
        """Where there are servers, a version is proved on them before the alias moves."""
        from relevance_core.serving import fleet
        from relevance_core.serving.rollout import roll_out

        if not fleet.endpoints(registry.store, settings.serving):
            return move()
        return roll_out(registry, versions, move, settings)[0]

    key = Key.load(settings.serving.verify_key) if settings.serving.verify_key else None
    return registry_cli.run(options, open_store(options.store), say, serve, key)


def _date(text: str) -> date:
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; expected YYYY-MM-DD") from None


def _print_result(result: dict[str, Any]) -> None:
    for task, figures in result["tasks"].items():
        f1 = f"F1 {figures['f1']:.4f} (always yes {figures['always_yes_f1']:.4f})"
        say(f"{task}: {figures['verdict']}, version {figures['version']}, {f1}")
        if figures["why"]:
            say(f"{task}: it does not serve: {figures['why']}")
        if figures["verdict"] == NEEDED and not figures["promoted"]:
            say(f"{task}: to let it serve, `relevance registry promote {task}={figures['version']} --why …`")
    say(f"report: {result['report']}")
