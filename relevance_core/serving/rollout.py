"""The rollout of a release: every server proves it, then the alias moves, then the versions that served before are unloaded.

The order keeps it safe. Every server of the version's base loads the new name beside the old one and answers the golden pairs; only
then does the alias move, in one entry of the log for all tasks; clients follow it within `serving.staleness_seconds`;
`serving.drain_seconds` later the old names are unloaded. A failure before the move leaves the alias and every server as they were.
A release on a new base (blue-green) is the same with servers that come up for it beside the old ones. Where there is no server at
all, one is started for the proof alone; without vLLM on the machine the trainer's own scorer stands in.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevance_core.config import Settings
from relevance_core.errors import RelevanceError, ServingError
from relevance_core.registry import Manifest, Registry, Release, golden, names
from relevance_core.scoring.bases import base_of, folder_of
from relevance_core.scoring.opened import machine_of, open_version, trainers
from relevance_core.serving import checks, fleet, readiness

if TYPE_CHECKING:
    from relevance_core.serving.wire import Server

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Proof:
    """The evidence that a version gave before it served.

    engine: the engine that scored its golden pairs. where: the servers, empty for a temporary one. pairs: their number.
    largest: the largest difference of p(yes) to the trainer's. tolerance: the bound of that difference.
    """

    task: str
    version: str
    engine: str
    where: tuple[str, ...]
    pairs: int
    largest: float
    tolerance: float

    def as_json(self) -> dict[str, Any]:
        """Returns the proof as plain values."""
        return asdict(self) | {"where": list(self.where)}


def roll_out(
    registry: Registry, versions: Mapping[str, str], move: Callable[[], Release], settings: Settings
) -> tuple[Release, list[Proof]]:
    """Proves versions on every server of their base, moves the alias by calling `move`, and drains.

    Args:
        registry: of the versions.
        versions: task → version id.
        move: moves the alias and returns the release.
        settings: of the run.

    Returns:
        The release that serves now, and a proof of each version.

    Raises:
        RegistryError: a version must not be served.
        ServingError: a server failed. The alias has not moved, and the servers hold the adapters that they held before.
    """
    manifests = [registry.require_intact(task, version) for task, version in sorted(versions.items())]
    for manifest in manifests:
        _check_base(registry, manifest, settings)
    with fleet.connected(registry.store, settings.serving) as everywhere:
        if everywhere:
            return _on_servers(registry, manifests, everywhere, move, settings)
    proofs = _prove_here(registry, manifests, settings)
    return move(), proofs


def _on_servers(
    registry: Registry,
    manifests: Sequence[Manifest],
    everywhere: list[Server],
    move: Callable[[], Release],
    settings: Settings,
) -> tuple[Release, list[Proof]]:
    """Proves, moves and drains where there are servers; undoes everything on them after a failure before the move."""
    held = {server.url: set(server.adapters()) for server in everywhere}
    started: list[fleet.Started] = []
    try:
        chosen = _servers_of(registry, manifests, everywhere, started, settings)
        proofs = [_prove(registry, manifest, chosen[manifest.name], settings) for manifest in manifests]
        before, release = registry.current(), move()
    except BaseException:
        _undo(everywhere, held, started)
        raise
    finally:
        for one in started:
            one.server.close()
    if before is not None and before.versions != release.versions:
        _drain(registry, before, everywhere, settings)
    return release, proofs


def bases_after(registry: Registry, versions: Mapping[str, str]) -> dict[str, str]:
    """Returns task → label of its base once these versions serve."""
    current = registry.current()
    moved = {task: registry.manifest(task, version).base.label for task, version in versions.items()}
    return (dict(current.bases) if current else {}) | moved


def _check_base(registry: Registry, manifest: Manifest, settings: Settings) -> None:
    """Opens a version whose base is on this machine. Raises RegistryError or ModelError for one that can't be scored rightly."""
    manifest.require_scorable()
    if folder_of(base_of(registry.store, manifest)) is not None:
        open_version(registry.store, manifest, machine_of(settings))


def _check_files(registry: Registry, manifest: Manifest, settings: Settings) -> None:
    """Raises RegistryError, with the cause, for an adapter that a server would refuse or, worse, serve with wrong scores."""
    base = folder_of(base_of(registry.store, manifest))
    if base is None:  # a Hugging Face id: the servers have its files, this machine may not
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = registry.fetch(manifest.task, manifest.version, Path(scratch) / manifest.version)
        served = checks.ServedBase(manifest.base.label, base, manifest.base_digest)
        checks.check_servable(folder, manifest, served, settings.serving.max_rank)


def _servers_of(
    registry: Registry,
    manifests: Sequence[Manifest],
    everywhere: list[Server],
    started: list[fleet.Started],
    settings: Settings,
) -> dict[str, list[Server]]:
    """Returns the servers of each version's base, by the version's name; starts missing ones and notes them in `started`."""
    chosen: dict[str, list[Server]] = {}
    for manifest in manifests:
        there = [*everywhere, *(one.server for one in started)]
        chosen[manifest.name] = fleet.on_base(there, manifest.base.label)
        if chosen[manifest.name]:
            continue
        if not settings.serving.start_servers:
            raise ServingError(
                f"no server runs {manifest.base.label}, the base of {manifest.name}",
                where=", ".join(server.url for server in everywhere),
                expected="servers of the new base beside the old ones",
                do=f"start them with `relevance serve --base {manifest.name}`, or set serving.start_servers",
            )
        started += fleet.start(registry.store, manifest, settings.serving)
        chosen[manifest.name] = [one.server for one in started if one.server.base() == manifest.base.label]
    return chosen


def _prove(registry: Registry, manifest: Manifest, servers: Sequence[Server], settings: Settings) -> Proof:
    """Holds every server to the golden pairs of the version."""
    pairs = golden.load(registry, manifest)
    try:
        largest, tolerance = max(readiness.check(server, manifest, pairs, settings.serving) for server in servers)
    except ServingError:
        # The plugin made the same check on the server and refused: here the reason reaches the caller of the rollout.
        _check_files(registry, manifest, settings)
        raise
    where = tuple(server.url for server in servers)
    log.info("%s proved on %s: p(yes) within %.1e of the trainer's", manifest.name, ", ".join(where), largest)
    return Proof(manifest.task, manifest.version, "vLLM", where, len(pairs.prompts), largest, tolerance)


def _prove_here(registry: Registry, manifests: Sequence[Manifest], settings: Settings) -> list[Proof]:
    """Proves the versions where no server is known: on a temporary vLLM server for each base, or by the trainer's scorer."""
    from relevance_core.machine import free_port, python_of
    from relevance_core.serving.server import LocalServer, spec_for
    from relevance_core.serving.wire import Server

    python = python_of(settings.serving)
    if python is None:
        log.info("no vLLM on this machine: the trainer's scorer answers the golden pairs")
        return [_prove_by_scorer(registry, manifest, settings) for manifest in manifests]
    proofs: list[Proof] = []
    for label in dict.fromkeys(manifest.base.label for manifest in manifests):
        mine = [manifest for manifest in manifests if manifest.base.label == label]
        spec = spec_for(registry.store, mine, settings.serving, host="127.0.0.1", port=free_port())
        with LocalServer.start(spec, python) as server, Server(server.url, settings.serving.timeout_seconds) as connection:
            server.wait()
            proofs += [_prove(registry, one, [connection], settings) for one in mine]
    return proofs


def _prove_by_scorer(registry: Registry, manifest: Manifest, settings: Settings) -> Proof:
    pairs, scorer = golden.load(registry, manifest), open_version(registry.store, manifest, trainers(settings)).scorer
    tolerance = readiness.tolerance_of(settings.serving, scorer.dtype, manifest.dtype)
    scores = scorer.score_ids([list(ids) for ids in pairs.prompts])
    largest = readiness.compare(scores, manifest, pairs, tolerance, "the trainer's scorer")
    return Proof(manifest.task, manifest.version, "transformers", (), len(pairs.prompts), largest, tolerance)


def _undo(everywhere: Sequence[Server], held: Mapping[str, set[str]], started: Sequence[fleet.Started]) -> None:
    """Restores the servers: unloads the loaded versions where a server still answers, and stops the servers that were started."""
    for server in everywhere:
        try:
            for name in sorted(server.adapters() - held[server.url]):
                server.unload(name)
        except RelevanceError as error:
            log.warning("left as it is, since it does not answer: %s", error)
    for one in started:
        one.stop()


def _drain(registry: Registry, before: Release, servers: Sequence[Server], settings: Settings) -> None:
    """Waits until the clients have followed the alias, then unloads the versions that no longer serve.

    The alias has moved: the failure of a server is now only logged. A server on a base that nothing serves any more ends by itself.
    """
    log.info("the alias moved; unloading in %g s what release %s served", settings.serving.drain_seconds, before.number)
    time.sleep(settings.serving.drain_seconds)
    release = registry.current() or before
    serving = {names.name_of(task, version) for task, version in release.versions.items()}
    for server in servers:
        try:
            for name in sorted(server.adapters() - serving):
                server.unload(name)
        except RelevanceError as error:
            log.warning("not unloaded: %s", error)
