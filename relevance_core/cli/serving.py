"""`relevance serve` and `relevance ready`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from relevance_core import config
from relevance_core.cli import shown
from relevance_core.cli.parsing import at_least
from relevance_core.errors import ServingError, SettingsError
from relevance_core.registry import Registry
from relevance_core.store import open_store

_HEALTH_SECONDS = 5.0


def add_serving_parsers(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds both commands; `add` makes a command with the options that every command has."""
    command = add("serve", _serve, shown.nothing, "--store s3://bucket/prefix --gpus 1 -- --gpu-memory-utilization 0.8")
    command.add_argument("--task", choices=["QC", "QI"], help="only this task's champion decides on the base")
    command.add_argument(
        "--base", default="champion", metavar="TASK@VERSION", help="a version whose base to run (default: the champions')"
    )
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    command.add_argument("--port", type=at_least(1, 65_535), default=8000, help="default: %(default)s")
    command.add_argument(
        "--gpus", type=at_least(0), metavar="N", help="GPUs that share the model; 0: the CPU (default: all that fit)"
    )
    command.add_argument("--dtype", choices=["float32", "bfloat16"], help="default: that of the versions it starts for")
    command.add_argument(
        "--advertise",
        metavar="URL",
        help="address by which others reach it (default: of host and port); '' keeps it out of the list",
    )
    command.add_argument("--until-replaced", action="store_true", help="end when no release stands on the base any more")
    command.add_argument("flags", nargs="*", metavar="FLAG", help="for vLLM, after --")

    command = add("ready", _ready, shown.ready, "--endpoint http://127.0.0.1:8000")
    command.add_argument("--endpoint", required=True, metavar="URL", help="for example http://127.0.0.1:8000")
    command.add_argument(
        "--champions", action="store_true", help="ready also means that the champions of its base agree with their golden pairs"
    )


def _serve(options: argparse.Namespace) -> dict[str, Any]:
    from relevance_core.machine import scratch
    from relevance_core.serving.serve import Plan, serve

    overrides = [f"serving.dtype={options.dtype}"] if options.dtype else []
    settings = config.load(options.settings, [*options.set, *overrides], os.environ).serving
    plan = Plan(
        options.base,
        options.task,
        options.host,
        options.port,
        options.gpus,
        options.advertise,
        options.until_replaced,
        tuple(options.flags),
    )
    status = serve(Registry(open_store(options.store)), plan, settings, scratch("cache") / "serving" / str(options.port))
    if status:
        sys.exit(status if status > 0 else 128 - status)
    return {"status": status}


def _ready(options: argparse.Namespace) -> dict[str, Any]:
    from relevance_core.serving.serve import champions_on, prove
    from relevance_core.serving.wire import Server

    if options.champions and not options.store:
        raise SettingsError("no store is named", where="--store", expected="the registry's store", do="or leave out --champions")
    with Server(options.endpoint, _HEALTH_SECONDS) as server:
        if not server.healthy():
            raise ServingError("the server is not healthy", where=options.endpoint, expected="/health with 200")
        found = {"endpoint": options.endpoint, "base": server.base()}
        if options.champions:
            settings = config.load(options.settings, options.set, os.environ).serving
            registry = Registry(open_store(options.store))
            prove(server, registry, champions_on(registry, server.base()), settings)
        return found | {"adapters": sorted(server.adapters())}
