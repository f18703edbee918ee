"""`relevance registry …`: look at the published versions and decide which of them serve."""

import argparse
import getpass
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from relevance_core.cli import results
from relevance_core.cli.parsing import Commands, Parser, a_text, add_command, at_least
from relevance_core.cli.results import Part, Show, Table
from relevance_core.errors import NotFound, RegistryError, SettingsError
from relevance_core.pairs import TASKS
from relevance_core.registry.manifest import Manifest, Release
from relevance_core.registry.releases import CHAMPION, Registry
from relevance_core.registry.signing import Key
from relevance_core.store.objects import Store

log = logging.getLogger(__name__)

Result = dict[str, Any]
Serve = Callable[[Registry, Mapping[str, str], Callable[[], Release]], Release]
"""Lets versions serve by calling the function that moves the alias, once they have shown what they must show before."""


def add_registry_parser(subparsers: Commands, text: str, common: Parser) -> Parser:
    """Adds `registry` and its commands; `common` holds the options that every command has (`--store`, `--json` …)."""
    parser = add_command(subparsers, "registry", text, "list --store ./store", listed=False)
    commands: Commands = parser.add_subparsers(dest="registry_command", required=True, metavar="COMMAND")

    def command(name: str, show: Show, text: str, example: str) -> Parser:
        made = add_command(commands, name, text, example, common)
        made.set_defaults(show=show)
        return made

    listing = command(
        "list",
        shown_list,
        "versions of every task, the champion marked, and the latest releases; a store that is not there is an error",
        "--store ./store --task QC",
    )
    listing.add_argument("--task", choices=TASKS, help="only this task, for example QC")
    listing.add_argument("--releases", type=at_least(0), default=10, metavar="N", help="how many releases to show (default 10)")

    show = command("show", shown_manifest, "the manifest of one version", "QC 0123abcd --store ./store")
    show.add_argument("task", choices=TASKS, metavar="TASK", help="QC or QI")
    show.add_argument(
        "version", nargs="?", default=CHAMPION, help="'champion' (default), a version, or the first 4 digits or more of one"
    )

    verify = command(
        "verify",
        shown_verified,
        "read every byte of a version, or of all, and compare it with its manifest; exit 68 if something is wrong, 66 if there is "
        "nothing to verify",
        "QC --store ./store",
    )
    verify.add_argument("task", nargs="?", choices=TASKS, metavar="TASK", help="QC or QI; without it, every version of every task")
    verify.add_argument("version", nargs="?", help="as for show; without it, every version of the task")

    promote = command(
        "promote",
        shown_release,
        "let these versions serve from now on",
        'QC=0123abcd QI=4567ef01 --store ./store --why "approved by ada"',
    )
    promote.add_argument(
        "versions", nargs="+", metavar="TASK=VERSION", help="for example QC=0123abcd QI=4567ef01; they move together"
    )
    _add_decision(promote)

    rollback = command(
        "rollback",
        shown_release,
        "let an older state serve again, as a new release; by default the state before the current one",
        '--task QC --store ./store --why "complaints about shoes"',
    )
    rollback.add_argument("--task", choices=TASKS, help="only this task; default: all")
    target = rollback.add_mutually_exclusive_group()
    target.add_argument("--release", type=at_least(1), metavar="N", help="go back to what release N served")
    target.add_argument("--version", help="let this version of --task serve")
    _add_decision(rollback)
    return parser


def _add_decision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--why", type=a_text, required=True, help="the reason, kept in the log")
    parser.add_argument("--who", type=a_text, help="who decides (default: the user of this process)")
    parser.add_argument("--run-id", default="", help="the run that decides, if one does")


def run(args: argparse.Namespace, store: Store, serve: Serve, key: Key | None = None) -> Result:
    """Runs the parsed command.

    Args:
        args: as parsed.
        store: the registry's.
        serve: lets versions serve, for `promote` and `rollback`.
        key: what manifests must be signed with, for `verify`.

    Returns:
        One JSON-ready object.
    """
    registry = Registry(store)
    if args.registry_command in {"promote", "rollback"}:
        decide = {"promote": _promote, "rollback": _rollback}[args.registry_command]
        return decide(args, registry, serve).to_json()
    if args.registry_command == "verify":
        return _verify(args, registry, key)
    return {"list": _list, "show": _show}[args.registry_command](args, registry)


def shown_list(result: Result) -> Iterator[Part]:
    """Versions by task and age, the champion with a star, then the releases. Nothing where there are none."""
    rows = [(task, row) for task, of_task in result["tasks"].items() for row in of_task]
    if rows:
        damaged = any(row["problem"] for _, row in rows)
        columns = ("", "task", "version", "created", "base", "languages", *(("problem",) if damaged else ()))
        yield Table(
            columns,
            [
                (
                    "*" if row["champion"] else "",
                    task,
                    row["version"],
                    row["created"][:10],
                    row["base"],
                    " ".join(row.get("languages", ())),
                    *((row["problem"],) if damaged else ()),
                )
                for task, row in rows
            ],
            frozenset(("languages", "problem")),
        )
    if result["releases"]:
        yield ""
        yield _releases(result["releases"])


def shown_release(result: Result) -> Iterator[Part]:
    """The release that serves since."""
    yield _releases([result])


def shown_manifest(result: Result) -> Iterator[Part]:
    """The manifest, indented."""
    yield json.dumps(result, indent=2, ensure_ascii=False)


def shown_verified(result: Result, problems: Mapping[str, Sequence[str]] | None = None) -> Iterator[Part]:
    """Each version, and that it is intact. problems: of those that are not, by name."""
    rows = [(name, "; ".join((problems or {}).get(name, ())) or "intact") for name in result["verified"]]
    yield Table(("version", "is"), rows, frozenset(("is",)))


def _releases(releases: Sequence[Mapping[str, Any]]) -> Table:
    tasks = sorted({task for release in releases for task in release["versions"]})
    rows = [
        (entry["number"], entry["at"], *(entry["versions"].get(task) for task in tasks), entry["who"], entry["why"])
        for entry in releases
    ]
    return Table(("release", "at", *tasks, "who", "why"), rows, frozenset(("why",)))


def _list(args: argparse.Namespace, registry: Registry) -> Result:
    current = registry.current()
    serving = current.versions if current else {}
    tasks: dict[str, list[Result]] = {}
    for task in [args.task] if args.task else registry.tasks():
        tasks[task] = [_row(registry, task, version, serving.get(task)) for version in registry.version_ids(task)]
        tasks[task].sort(key=lambda row: (row["created"], row["version"]))
    if not any(tasks.values()):
        log.info("no version%s is published in %s yet", f" of {args.task}" if args.task else "", registry.store.uri)
    latest = range(max(1, current.number - args.releases + 1), current.number + 1) if current else range(0)
    releases = [registry.release(number) for number in latest]
    return {"tasks": tasks, "current": current.to_json() if current else None, "releases": [r.to_json() for r in releases]}


def _row(registry: Registry, task: str, version: str, champion: str | None) -> Result:
    """One line of the list; a damaged version has its problem there, so that it does not hide the others."""
    row: Result = {"version": version, "champion": version == champion, "created": "", "base": "", "problem": ""}
    try:
        manifest = registry.manifest(task, version)
    except RegistryError as error:
        return row | {"problem": str(error)}
    return row | {"created": manifest.created, "base": manifest.base.label, "languages": list(manifest.languages)}


def _show(args: argparse.Namespace, registry: Registry) -> Result:
    return registry.resolve(args.task, args.version).to_json()


def _verify(args: argparse.Namespace, registry: Registry, key: Key | None) -> Result:
    problems: dict[str, list[str]] = {}
    for task in [args.task] if args.task else registry.tasks():
        versions = [registry.resolve(task, args.version).version] if args.version else registry.version_ids(task)
        for version in versions:
            found = registry.verify(task, version, key)
            problems[f"{task}@{version}"] = found
            log.log(logging.WARNING if found else logging.INFO, "%s %s: %s", task, version, "; ".join(found) or "intact")
    if not problems:
        raise NotFound(
            f"there is no version{f' of {args.task}' if args.task else ''} to verify",
            where=registry.store.uri,
            expected="a store that versions were published to",
            do="correct --store or RELEVANCE_STORE; `relevance registry list` shows what is there",
        )
    damaged = [name for name, found in problems.items() if found]
    if damaged:
        if not args.json:
            results.show(shown_verified({"verified": sorted(problems)}, problems))
        raise RegistryError(
            f"damaged: {', '.join(damaged)}",
            where=registry.store.uri,
            do="read the problems above; promote another version where one of these serves, and restore the objects from a backup",
        )
    return {"verified": sorted(problems)}


def _promote(args: argparse.Namespace, registry: Registry, serve: Serve) -> Release:
    manifests: dict[str, Manifest] = {}
    for text in args.versions:
        task, _, version = text.partition("=")
        if not version or task in manifests or task not in TASKS:
            raise SettingsError(
                f"{text!r} can't be promoted", expected="TASK=VERSION of QC or QI, each task once, for example QC=0123abcd"
            )
        manifests[task] = registry.resolve(task, version)
    versions = {task: manifest.version for task, manifest in manifests.items()}
    return serve(registry, versions, lambda: registry.promote(versions, who=_who(args), why=args.why, run_id=args.run_id))


def _rollback(args: argparse.Namespace, registry: Registry, serve: Serve) -> Release:
    if args.version is not None and args.task is None:
        raise SettingsError("a version was given without its task", where="--version", do="name the task, for example --task QC")
    older = registry.older(args.task, args.version if args.version is not None else args.release)
    return serve(registry, older.versions, lambda: registry.restore(older, who=_who(args), why=args.why, run_id=args.run_id))


def _who(args: argparse.Namespace) -> str:
    return args.who or getpass.getuser()
