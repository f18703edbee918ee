"""Arguments, settings and errors of the command line; the work is done elsewhere."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final, cast

from relevance_core import config, loop
from relevance_core.cli import ablate as ablate_cli
from relevance_core.cli import cikm as cikm_cli
from relevance_core.cli import console, results, shown
from relevance_core.cli import registry as registry_cli
from relevance_core.cli import review as review_cli
from relevance_core.cli.outputs import output_file, output_folder
from relevance_core.cli.parsing import (
    Commands,
    Once,
    Parser,
    UsageError,
    Version,
    a_date,
    a_moment,
    a_text,
    add_command,
    at_least,
    filled,
    in_utf8,
)
from relevance_core.cli.results import Show
from relevance_core.cli.serving import add_serving_parsers
from relevance_core.cli.stores import existing_store
from relevance_core.config import Settings
from relevance_core.errors import RelevanceError, SettingsError
from relevance_core.pairs import TASKS, Task
from relevance_core.processes import collect_rarely
from relevance_core.registry import Manifest, Registry, Release
from relevance_core.registry.signing import Key
from relevance_core.runs import folder
from relevance_core.runs.run import open_run
from relevance_core.runs.steps import BEGIN, REPORT, STEPS
from relevance_core.store import open_store
from relevance_core.store.disk import disk_errors, writing

if TYPE_CHECKING:
    from polars import DataFrame, Series

    from relevance_core.stages.evaluate import ScoreRows

log = logging.getLogger(__name__)

RUNNABLE: Final = (BEGIN, *STEPS, REPORT)
"""The stages that `relevance stage` runs. *approve* is none: Airflow asks a person."""

STORELESS = ("simulate", "settings", "ready", "check")
"""The commands that work without a store."""

ABOUT: Final = "Keeps a multilingual search-relevance model fresh: every stage, the whole loop, and the tools around it."

GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "run the loop": {
        "simulate": "write days of the simulated marketplace: logs, clicks, catalogue, glossary, truth",
        "check": "read a source as a run would, and say what became of each file and row",
        "retrain": "run the whole loop: from labelled logs to a gated, published adapter for each task",
        "stage": "run one stage of a run, as a task of the DAG does",
        "report": "write the HTML report of a run as far as it is",
        "ablate": "measure what each strategy adds, with intervals; nothing that it trains can serve",
    },
    "use what it made": {
        "registry": "published versions, and which of them serve",
        "evaluate": "F1 of the champion or a version, at its own threshold, on any labelled file",
        "score": "p(yes) and the decision for every pair of a file",
        "serve": "start vLLM for the base of what serves, with the adapters of the registry, and stay until it ends; "
        "flags of vLLM's own may follow after --",
        "ready": "exit 0 when a server is healthy, 69 when it is not: for health checks",
    },
    "around it": {
        "review": "rows that wait for a person, and the decisions about them",
        "cikm": "the CIKM AnalytiCup 2025: its files, a submission, its check",
        "settings": "print every setting, its default and its meaning",
    },
}
"""Every command and what it does, in the groups and the order of `relevance --help`."""

EXAMPLES: Final = """\
examples, with the store in $RELEVANCE_STORE:
  relevance retrain --source shop --window-end 2026-10-08
  relevance registry list | grep QC
  relevance registry rollback --task QC --why "complaints about shoes"

Results go to stdout, progress and errors to stderr; docs/commands.md has the exit codes.
`relevance COMMAND --help` says more of a command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command: its result goes to stdout, all else to stderr. Returns the exit status (docs/commands.md)."""
    called = "relevance"
    try:
        results.require_streams()
        console.log_to_stderr()
        options = build_parser().parse_args(in_utf8(sys.argv[1:] if arguments is None else arguments))
        called = options.called
        _prepare(options)
        if options.json:
            with results.nothing_on_stdout():
                result = options.run(options)
            results.print_json(result)
        else:
            result = options.run(options)
            results.show(options.show(result))
        if error := options.verdict(result):
            raise error
    except RelevanceError as error:
        console.fail(error.called if isinstance(error, UsageError) else called, error)
        return error.exit_code
    except KeyboardInterrupt:
        console.fail(called, "interrupted; finished stages are kept, the same command goes on from there")
        return 130
    return 0


def _prepare(options: argparse.Namespace) -> None:
    """Prepares a command to run. Raises SettingsError for a missing store address, and for settings that can't be meant."""
    in_utf8([getattr(options, "store", "")])
    if getattr(options, "store", None) == "" and options.command not in STORELESS:
        raise SettingsError(
            "no store is named", where="--store", expected="a folder or s3://bucket/prefix", do="or set RELEVANCE_STORE"
        )
    if hasattr(options, "settings"):
        _settings(options)  # for the commands that read none, too
    console.show_bars()
    collect_rarely()
    # Torch reads these when it is imported: idle threads must not spin beside another process's work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def build_parser() -> Parser:
    """The parser of `relevance` with all its commands."""
    common = _common()
    listed = "\n\n".join(_group(name, group) for name, group in GROUPS.items())
    parser = Parser(
        prog="relevance", usage="relevance COMMAND [options]", description=filled(ABOUT), epilog=f"{listed}\n\n{EXAMPLES}"
    )
    parser.add_argument("--version", action=Version)
    commands: Commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", prog="relevance", help=argparse.SUPPRESS
    )
    texts = {name: text for group in GROUPS.values() for name, text in group.items()}

    def add(
        name: str, run: Callable[[argparse.Namespace], Any], show: Show, example: str, more: str = "", *, plain: bool = False
    ) -> Parser:
        command = add_command(commands, name, texts[name], example, *(() if plain else (common,)), more=more, listed=False)
        command.set_defaults(run=run, show=show)
        return command

    parser.set_defaults(verdict=lambda result: None)
    _add_loop(add)
    _add_models(add)
    add_serving_parsers(add)
    registry_cli.add_registry_parser(commands, texts["registry"], common).set_defaults(run=_registry)
    review_cli.add_review_parser(commands, texts["review"], common).set_defaults(run=review_cli.run)
    cikm_cli.add_cikm_parser(commands, texts["cikm"], common, _add_scoring).set_defaults(
        run=lambda options: cikm_cli.run(options, _scorer)
    )
    add("settings", _settings_page, lambda page: [page["markdown"]], "> settings.md", plain=True).set_defaults(json=False)
    return parser


def _common() -> Parser:
    """The options that nearly every command has."""
    common = Parser(add_help=False)
    group = common.add_argument_group("common")
    group.add_argument(
        "--store",
        default=os.environ.get("RELEVANCE_STORE", ""),
        metavar="URI",
        help="object store: a path, file:///path or s3://bucket/prefix (default: $RELEVANCE_STORE)",
    )
    group.add_argument("--settings", action=Once, metavar="FILE", help="settings file, TOML or YAML (docs/settings.md)")
    group.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, e.g. --set train.epochs=1")
    group.add_argument(
        "--json", action="store_true", help="print one JSON object as the last line of stdout, and nothing else there"
    )
    return common


def _group(name: str, commands: Mapping[str, str]) -> str:
    """A group of commands in the list of all."""
    lines = [f"  {command:10}{filled(text, ' ' * 12).lstrip()}" for command, text in commands.items()]
    return "\n".join([f"{name}:", *lines])


def _stages() -> str:
    """Every stage with its title and its text, in the order in which they run."""
    lines = ["stages, in their order; those of a task run once for each of QC and QI and need --task:"]
    for step in RUNNABLE:
        lines += [f"  {step.name:11}{step.title}{' (of a task)' if step.per_task else ''}", filled(step.text, " " * 13)]
    return "\n".join(lines)


def _add_loop(add: Callable[..., Parser]) -> None:
    command = add("simulate", _simulate, shown.simulate, "--out shop --start 2026-10-01 --days 7")
    command.add_argument("--out", type=output_folder, required=True, metavar="FOLDER")
    command.add_argument("--start", type=a_date, default=date(2026, 10, 1), metavar="DATE", help="first day (default: %(default)s)")
    command.add_argument("--days", type=at_least(1, 10_000), default=7, metavar="N", help="default: %(default)s")
    command.add_argument("--seed", type=at_least(0), default=17, metavar="N", help="default: %(default)s")

    command = add("check", _check, shown.check, "--source shop")
    command.set_defaults(verdict=_check_verdict)
    command.add_argument("--source", metavar="URI", help="labelled logs: a folder of dt=YYYY-MM-DD partitions or a file")
    command.add_argument(
        "--window-end", type=a_moment, metavar="DATE", help="end of the window, exclusive (UTC); default: every day of the source"
    )

    command = add("retrain", _retrain, shown.retrain, "--store ./store --source shop --window-end 2026-10-08 --onboard de")
    _add_rows(command)
    command.add_argument("--run-id", default="", help="default: a digest of the settings and the source's content")
    command.add_argument("--dry-run", action="store_true", help="stop before a model is built, with the report")

    example = "--store ./store --source shop --window-end 2026-10-08 --seeds 3 --out ablation"
    command = add("ablate", _ablate, ablate_cli.shown, example)
    _add_rows(command)
    ablate_cli.add_options(command)

    command = add("stage", _stage, shown.stage, "mine --store ./store --run 2026-10-08-0a1b2c3d --task QC", _stages())
    command.add_argument("name", metavar="NAME", choices=[step.name for step in RUNNABLE], help="a stage of the list below")
    command.add_argument("--run", dest="run_id", required=True, metavar="RUN_ID")
    command.add_argument("--task", choices=TASKS, help="for the stages of a task")
    command.add_argument("--dag-run", default="", metavar="ID", help="begin: Airflow's name of the run")

    command = add("report", _report, shown.report, "2026-10-08-0a1b2c3d --store ./store --output report.html")
    command.add_argument("run_id", metavar="RUN")
    command.add_argument("--output", type=output_file, metavar="FILE", help="copy the report there")


def _add_rows(command: argparse.ArgumentParser) -> None:
    """Adds the options that choose the rows of a run."""
    command.add_argument(
        "--source", type=a_text, metavar="URI", help="labelled logs: a folder of dt=YYYY-MM-DD partitions or a file"
    )
    command.add_argument(
        "--window-end",
        type=a_moment,
        metavar="DATE",
        help="end of the window, exclusive: the first moment of a day (UTC), or a time with its zone",
    )
    command.add_argument(
        "--onboard", type=a_text, action="append", default=[], metavar="LANG", help="bring in a language; may be repeated"
    )
    command.add_argument("--tasks", type=a_text, metavar="QC,QI")


def _add_models(add: Callable[..., Parser]) -> None:
    command = add("evaluate", _evaluate, shown.evaluate, "--store ./store --task QC --data labelled.parquet")
    command.add_argument("--task", choices=TASKS, required=True)
    command.add_argument("--data", required=True, metavar="FILE")
    command.add_argument("--version", help="a version's id or its first letters (default: the champion)")

    command = add("score", _score, shown.score, "--store ./store --task QC --input pairs.csv --output scores.parquet")
    command.add_argument("--task", choices=TASKS, required=True)
    command.add_argument("--input", required=True, metavar="FILE")
    command.add_argument("--output", type=output_file, required=True, metavar="FILE", help=".parquet, .jsonl or .csv")
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


def _settings_page(options: argparse.Namespace) -> dict[str, Any]:
    from relevance_core.config.table import as_markdown

    return {"markdown": as_markdown()}


def _settings(options: argparse.Namespace) -> Settings:
    return config.load(options.settings, options.set, os.environ)


def _simulate(options: argparse.Namespace) -> dict[str, Any]:
    from pathlib import Path

    from relevance_core.tools.simulator.market import Market, write

    log.info("simulating %d days from %s into %s", options.days, options.start, options.out)
    out = Path(options.out)
    with disk_errors("writing the simulated days", out, whole=False):
        return dict(write(Market(seed=options.seed), options.start, options.days, out))


def _check(options: argparse.Namespace) -> dict[str, Any]:
    from relevance_core.tools.check import check_source

    overrides = list(options.set)
    overrides += [f"source.uri={options.source}"] if options.source else []
    overrides += [f"window.end={options.window_end.isoformat()}"] if options.window_end else []
    return check_source(config.load(options.settings, overrides, os.environ))


def _check_verdict(result: Mapping[str, Any]) -> RelevanceError | None:
    from relevance_core.tools.check import verdict

    return verdict(result)


def _ablate(options: argparse.Namespace) -> dict[str, Any]:
    return ablate_cli.run(options, _loop_settings(options), open_store(options.store))


def _loop_settings(options: argparse.Namespace) -> Settings:
    """The settings with what the options of `_add_rows` say."""
    overrides = list(options.set)
    overrides += [f"source.uri={options.source}"] if options.source else []
    overrides += [f"window.end={options.window_end.isoformat()}"] if options.window_end else []
    overrides += [f"onboard={','.join(options.onboard)}"] if options.onboard else []
    overrides += [f"tasks={options.tasks}"] if options.tasks else []
    return config.load(options.settings, overrides, os.environ)


def _retrain(options: argparse.Namespace) -> dict[str, Any]:
    settings = _loop_settings(options)
    return loop.retrain(settings, open_store(options.store), options.run_id, dry_run=options.dry_run)


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
        with writing(path := Path(options.output)):
            path.write_bytes(run.store.read(report.key("report.html")))
    where = options.output or run.store.uri_of(report.key("report.html"))
    return {"run_id": run.run_id, "report": where}


def _evaluate(options: argparse.Namespace) -> dict[str, Any]:
    from relevance_core.stages.evaluate import evaluate_file

    return evaluate_file(open_store(options.store), options.task, options.data, options.version, _settings(options))


def _score(options: argparse.Namespace) -> dict[str, Any]:
    from relevance_core.stages.evaluate import score_file

    store, score = open_store(options.store), _scorer(options)
    return score_file(store, options.task, options.input, options.output, options.version, score, _settings(options).source)


def _scorer(options: argparse.Namespace) -> ScoreRows:
    """Returns the function that scores rows under a version, by the options of `_add_scoring`."""
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
        """Moves the alias; with servers, after they have proved the versions."""
        from relevance_core.serving import fleet
        from relevance_core.serving.rollout import roll_out

        if not fleet.endpoints(registry.store, settings.serving):
            return move()
        return roll_out(registry, versions, move, settings)[0]

    key = Key.load(settings.serving.verify_key) if settings.serving.verify_key else None
    return registry_cli.run(options, existing_store(options.store), serve, key)
