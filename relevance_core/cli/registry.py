"""`relevance registry …`: look at the published versions and decide which of them serve."""

import argparse
import getpass
from collections.abc import Callable, Mapping
from typing import Any

from relevance_core.errors import RegistryError, SettingsError
from relevance_core.registry.manifest import Manifest, Release
from relevance_core.registry.releases import CHAMPION, Registry
from relevance_core.registry.signing import Key
from relevance_core.store.objects import Store

Say = Callable[[str], None]
Result = dict[str, Any]
Serve = Callable[[Registry, Mapping[str, str], Callable[[], Release]], Release]
"""Lets versions serve by calling the function that moves the alias, once they have shown what they must show before."""


def add_registry_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]", common: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """Add `registry` and its commands; `common` holds the options that every command has (`--store`, `--json` …)."""
    parser = subparsers.add_parser("registry", help="published versions, and which of them serve", description=__doc__)
    commands = parser.add_subparsers(dest="registry_command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[common])

    listing = command("list", "versions of every task, the champion marked, and the latest releases")
    listing.add_argument("--task", help="only this task, for example QC")
    listing.add_argument("--releases", type=int, default=10, metavar="N", help="how many releases to show (default 10)")

    show = command("show", "the manifest of one version")
    show.add_argument("task", help="QC or QI")
    show.add_argument(
        "version", nargs="?", default=CHAMPION, help="'champion' (default), a version, or the first 4 digits or more of one"
    )

    verify = command(
        "verify", "read every byte of a version, or of all, and compare it with its manifest; exit 68 if something is wrong"
    )
    verify.add_argument("task", nargs="?", help="QC or QI; without it, every version of every task")
    verify.add_argument("version", nargs="?", help="as for show; without it, every version of the task")

    promote = command("promote", "let these versions serve from now on")
    promote.add_argument(
        "versions", nargs="+", metavar="TASK=VERSION", help="for example QC=0123abcd QI=4567ef01; they move together"
    )
    _add_decision(promote)

    rollback = command("rollback", "let an older state serve again, as a new release; by default the state before the current one")
    rollback.add_argument("--task", help="only this task; default: all")
    target = rollback.add_mutually_exclusive_group()
    target.add_argument("--release", type=int, metavar="N", help="go back to what release N served")
    target.add_argument("--version", help="let this version of --task serve")
    _add_decision(rollback)
    return parser


def _add_decision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--why", required=True, help="the reason, kept in the log")
    parser.add_argument("--who", help="who decides (default: the user of this process)")
    parser.add_argument("--run-id", default="", help="the run that decides, if one does")


def run(args: argparse.Namespace, store: Store, say: Say, serve: Serve, key: Key | None = None) -> Result:
    """Run the parsed command on `store`: text for people goes to `say`, the result is one JSON-ready object.

    key: what manifests must be signed with, for `verify`.
    """
    registry = Registry(store)
    if args.registry_command in {"promote", "rollback"}:
        decide = {"promote": _promote, "rollback": _rollback}[args.registry_command]
        release = decide(args, registry, serve)
        say(_line(release))
        return release.to_json()
    if args.registry_command == "verify":
        return _verify(args, registry, say, key)
    return {"list": _list, "show": _show}[args.registry_command](args, registry, say)


def _list(args: argparse.Namespace, registry: Registry, say: Say) -> Result:
    current = registry.current()
    serving = current.versions if current else {}
    tasks: dict[str, list[Result]] = {}
    for task in [args.task] if args.task else registry.tasks():
        tasks[task] = [_row(registry, task, version, serving.get(task)) for version in registry.version_ids(task)]
        tasks[task].sort(key=lambda row: (row["created"], row["version"]))
        for row in tasks[task]:
            mark = "*" if row["champion"] else " "
            say(f"{mark} {task} {row['version']}  {row['created'][:10]:10}  {row['base']}  {row['problem']}".rstrip())
    latest = range(max(1, current.number - args.releases + 1), current.number + 1) if current else range(0)
    releases = [registry.release(number) for number in latest]
    for release in releases:
        say(_line(release))
    return {"tasks": tasks, "current": current.to_json() if current else None, "releases": [r.to_json() for r in releases]}


def _row(registry: Registry, task: str, version: str, champion: str | None) -> Result:
    """One line of the list; a damaged version has its problem there, so that it does not hide the others."""
    row: Result = {"version": version, "champion": version == champion, "created": "", "base": "", "problem": ""}
    try:
        manifest = registry.manifest(task, version)
    except RegistryError as error:
        return row | {"problem": str(error)}
    return row | {"created": manifest.created, "base": manifest.base.label, "languages": list(manifest.languages)}


def _show(args: argparse.Namespace, registry: Registry, say: Say) -> Result:
    manifest = registry.resolve(args.task, args.version)
    say(manifest.to_bytes().decode().rstrip())
    return manifest.to_json()


def _verify(args: argparse.Namespace, registry: Registry, say: Say, key: Key | None) -> Result:
    problems: dict[str, list[str]] = {}
    for task in [args.task] if args.task else registry.tasks():
        versions = [registry.resolve(task, args.version).version] if args.version else registry.version_ids(task)
        for version in versions:
            found = registry.verify(task, version, key)
            problems[f"{task}@{version}"] = found
            say(f"{task} {version}: {'; '.join(found) or 'intact'}")
    damaged = [name for name, found in problems.items() if found]
    if damaged:
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
        if not version or task in manifests:
            raise SettingsError(f"{text!r} can't be promoted", expected="TASK=VERSION, each task once, for example QC=0123abcd")
        manifests[task] = registry.resolve(task, version)
    versions = {task: manifest.version for task, manifest in manifests.items()}
    return serve(registry, versions, lambda: registry.promote(versions, who=_who(args), why=args.why, run_id=args.run_id))


def _rollback(args: argparse.Namespace, registry: Registry, serve: Serve) -> Release:
    to = args.version if args.version is not None else args.release
    versions, _ = registry.older(args.task, to)
    return serve(registry, versions, lambda: registry.rollback(args.task, to, who=_who(args), why=args.why, run_id=args.run_id))


def _line(release: Release) -> str:
    versions = " ".join(f"{task}={version}" for task, version in sorted(release.versions.items()))
    return f"release {release.number}  {release.at}  {versions}  by {release.who}: {release.why}"


def _who(args: argparse.Namespace) -> str:
    return args.who or getpass.getuser()
