"""What goes out and in which order: proof on every server, the alias, the drain; and what a failure leaves behind.

The servers are stand-ins that keep a list of what they were asked, since a real one can't be made to fail between two calls; the
real ones are in test_serving_live.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from relevance_core.config import Settings, build
from relevance_core.errors import Conflict, RegistryError, ServingError
from relevance_core.pairs import Task
from relevance_core.registry import BaseInfo, Manifest, Registry, Release, golden
from relevance_core.runs.approval import Approval
from relevance_core.runs.artifacts import Report, Rows, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.serving import fleet, readiness
from relevance_core.serving.rollout import Proof, roll_out
from relevance_core.stages import rollout as stage_module
from relevance_core.store import Store, open_store
from tests.support.registry_cases import make_adapter, make_meta

PAIRS = {"answers": [7, 8], "rows": [{"ids": [1, 2], "p": 0.9}, {"ids": [3], "p": 0.2}]}
SETTINGS = build({"window": {"end": "2026-10-08"}, "serving": {"drain_seconds": 0}})


@dataclass
class Stand:
    """A server that answers the golden pairs exactly, `off` further, or not at all once `dies_at` is reached."""

    url: str
    label: str = "tiny@b1"
    numbers: str = "float32"
    off: float = 0.0
    dies_at: str = ""
    held: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def healthy(self) -> bool:
        return True

    def base(self) -> str:
        return self.label

    def dtype(self) -> str:
        return self.numbers

    def adapters(self) -> set[str]:
        return set(self.held)

    def score(self, name: str, prompts: Any, answers: Any) -> Any:
        assert (list(prompts), answers) == ([(1, 2), (3,)], (7, 8))
        self._ask(f"score {name}")
        self.held.add(name)
        return np.array([0.9, 0.2]) + self.off

    def close(self) -> None:
        """Its connection; nothing to end here."""

    def unload(self, name: str) -> None:
        self._ask(f"unload {name}")
        self.held.remove(name)

    def _ask(self, what: str) -> None:
        if self.dies_at and self.dies_at in what:
            raise ServingError("killed", where=self.url)
        self.asked.append(what)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(open_store(str(tmp_path / "store")))


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the given stand-ins be all the servers there are."""

    def are(*servers: Stand) -> None:
        monkeypatch.setattr(fleet, "connected", lambda store, settings: nullcontext(list(servers)))

    return are


def published(registry: Registry, folder: Path, task: Task = "QC", **meta: Any) -> Manifest:
    """A version with golden pairs; others in `meta` make another version."""
    adapter = make_adapter(folder / f"{task}-{len(registry.version_ids(task))}")
    (adapter / golden.FILE).write_text(json.dumps(PAIRS))
    return registry.publish(task, adapter, make_meta(**meta))


def promote(registry: Registry, *manifests: Manifest) -> Callable[[], Release]:
    versions = {manifest.task: manifest.version for manifest in manifests}
    return lambda: registry.promote(versions, who="test", why="test")


def go(registry: Registry, manifest: Manifest, settings: Settings = SETTINGS) -> tuple[Release, list[Proof]]:
    return roll_out(registry, {manifest.task: manifest.version}, promote(registry, manifest), settings)


def test_every_server_proves_it_then_the_alias_moves_then_the_old_one_goes(
    registry: Registry, tmp_path: Path, serving: Callable[..., None]
) -> None:
    """Two servers score the new version; the log has its entry; the version before is unloaded on both, the new one stays."""
    old, new = published(registry, tmp_path), published(registry, tmp_path, data={"train": "d2"})
    promote(registry, old)()
    servers = [Stand(url, held={old.name}) for url in ("http://a:1", "http://b:1")]
    serving(*servers)
    release, (proof,) = go(registry, new)
    assert release.versions == {"QC": new.version}
    assert (proof.engine, proof.where, proof.pairs, proof.largest) == ("vLLM", ("http://a:1", "http://b:1"), 2, 0.0)
    for server in servers:
        assert server.asked == [f"score {new.name}", f"unload {old.name}"]
        assert server.held == {new.name}


@pytest.mark.parametrize("broken", [{"off": 0.01}, {"off": float("nan")}, {"dies_at": "score"}])
def test_a_server_that_fails_leaves_the_alias_and_the_other_servers_as_they_were(
    registry: Registry, tmp_path: Path, serving: Callable[..., None], broken: dict[str, Any]
) -> None:
    """Scores 0.01 off, no numbers, or no answer on the second server: the first unloads the new version, the old one serves."""
    old, new = published(registry, tmp_path), published(registry, tmp_path, data={"train": "d2"})
    promote(registry, old)()
    well, ill = Stand("http://a:1", held={old.name}), Stand("http://b:1", held={old.name}, **broken)
    serving(well, ill)
    with pytest.raises(ServingError, match="http://b:1"):
        go(registry, new)
    current = registry.current()
    assert current is not None
    assert current.versions == {"QC": old.version}
    assert well.held == ill.held == {old.name}


def test_an_alias_that_moved_meanwhile_undoes_the_loading(registry: Registry, tmp_path: Path, serving: Callable[..., None]) -> None:
    """The move raises Conflict after the proof: the server is left as it was."""
    old, new = published(registry, tmp_path), published(registry, tmp_path, data={"train": "d2"})
    promote(registry, old)()
    server = Stand("http://a:1", held={old.name})
    serving(server)

    def lose() -> Release:
        raise Conflict("the champion moved")

    with pytest.raises(Conflict):
        roll_out(registry, {"QC": new.version}, lose, SETTINGS)
    assert server.held == {old.name}


def test_a_server_that_dies_after_the_move_changes_nothing_any_more(
    registry: Registry, tmp_path: Path, serving: Callable[..., None]
) -> None:
    """Unloading fails on one server: the new version serves all the same, and the other server unloads."""
    old, new = published(registry, tmp_path), published(registry, tmp_path, data={"train": "d2"})
    promote(registry, old)()
    dying, well = Stand("http://a:1", held={old.name}, dies_at="unload"), Stand("http://b:1", held={old.name})
    serving(dying, well)
    release, _ = go(registry, new)
    assert release.versions == {"QC": new.version}
    assert well.held == {new.name}


def test_a_base_that_no_server_runs_is_told_with_what_to_do(
    registry: Registry, tmp_path: Path, serving: Callable[..., None]
) -> None:
    """The alias stays, and the message names the base, the servers and the command."""
    new = published(registry, tmp_path)
    serving(Stand("http://a:1", label="tiny@old"))
    with pytest.raises(ServingError, match=rf"no server runs tiny@b1.*http://a:1.*relevance serve --base {new.name}"):
        go(registry, new)
    assert registry.current() is None


def test_servers_of_a_new_base_come_up_beside_the_old_ones(
    registry: Registry, tmp_path: Path, serving: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They prove both tasks, whose aliases move in one entry; when the second fails there they are stopped, and nothing moved."""
    base = {"base": BaseInfo(id="tiny", digest="b2")}
    olds = [published(registry, tmp_path, task) for task in ("QC", "QI")]
    promote(registry, *olds)()
    news = [published(registry, tmp_path, task, **base) for task in ("QC", "QI")]
    blue, green, stopped = Stand("http://a:1"), Stand("http://c:1", label="tiny@b2", dies_at="score relevance-qi"), []
    serving(blue)
    started = lambda *given: [fleet.Started(green, lambda: stopped.append("green"))]  # noqa: E731
    monkeypatch.setattr(fleet, "start", started)
    settings = build({"serving": {"drain_seconds": 0, "start_servers": 1}})
    versions = {manifest.task: manifest.version for manifest in news}
    with pytest.raises(ServingError, match="killed"):
        roll_out(registry, versions, promote(registry, *news), settings)
    assert stopped == ["green"]
    assert registry.history()[-1].versions == {old.task: old.version for old in olds}
    green.dies_at = ""
    release, proofs = roll_out(registry, versions, promote(registry, *news), settings)
    assert (release.number, release.versions) == (2, versions)
    assert release.bases == {"QC": "tiny@b2", "QI": "tiny@b2"}
    assert [proof.where for proof in proofs] == [("http://c:1",)] * 2
    assert stopped == ["green"]


def test_golden_pairs_that_were_changed_prove_nothing(registry: Registry, tmp_path: Path, serving: Callable[..., None]) -> None:
    """Bytes that differ from the manifest's digest stop the rollout, before a server is asked."""
    new = published(registry, tmp_path)
    registry.store.write(f"adapters/qc/{new.version}/{golden.FILE}", json.dumps(PAIRS | {"answers": [8, 7]}).encode())
    server = Stand("http://a:1")
    serving(server)
    with pytest.raises(RegistryError, match=r"golden\.json"):
        go(registry, new)
    assert server.asked == []


def test_golden_pairs_take_turns_between_languages_and_labels() -> None:
    """Of 40 English positives, 2 English negatives and 1 German one, the rare ones are all among the 32, and come first."""
    rows = pl.DataFrame(
        [{"pair_id": f"{n:03}", "language": "en", "label": 1} for n in range(40)]
        + [{"pair_id": f"9{n}", "language": "en", "label": 0} for n in range(2)]
        + [{"pair_id": "99", "language": "de", "label": 0}]
    ).with_columns(task=pl.lit("QC"), query=pl.col("pair_id"), target=pl.lit("t"), english=pl.lit(None, pl.String))
    chosen = [row[1] for row in golden.choose(rows.sample(fraction=1, shuffle=True, seed=3))]
    assert chosen[:5] == ["99", "90", "000", "91", "001"]
    assert len(chosen) == golden.ROWS


def test_the_bound_follows_the_coarser_dtype_of_server_and_version() -> None:
    """1e-3 where both are in float32 or tell nothing, 3e-2 where either is in bfloat16, and the setting's where there is one."""
    plain, own = build({}).serving, build({"serving": {"tolerance": 0.5}}).serving
    told = [("float32", "float32"), (None, None), ("bfloat16", None), ("bfloat16", "float32"), ("float32", "bfloat16")]
    assert [readiness.tolerance_of(plain, *pair) for pair in told] == [1e-3, 1e-3, 3e-2, 3e-2, 3e-2]
    assert readiness.tolerance_of(own, "bfloat16", "float32") == 0.5


def test_a_server_in_bfloat16_is_held_to_that_bound(registry: Registry, tmp_path: Path, serving: Callable[..., None]) -> None:
    """0.01 off is a failure in float32 and within the bound of a server that says it computes in bfloat16."""
    new = published(registry, tmp_path)
    serving(Stand("http://a:1", off=0.01, numbers="bfloat16"))
    _, (proof,) = go(registry, new)
    assert (proof.largest, proof.tolerance) == (pytest.approx(0.01), 3e-2)


# The stage


def stage_inputs(store: Store, champion: dict[str, str], *about: tuple[Manifest, str], answers: Sequence[Approval] = ()) -> Inputs:
    """What *rollout* reads: the `version.json` of each task with a verdict, and what people answered."""
    artifacts = {}
    for manifest, verdict in about:
        values = {"version": manifest.version, "verdict": verdict, "why": f"{manifest.task} is better", "task": manifest.task}
        made = stage(f"publish-{verdict}-{manifest.version}", uses=())(_write(values))
        found = open_artifact(store, made(SETTINGS, Inputs(task=manifest.task), store).address)  # type: ignore[arg-type]
        assert found is not None
        artifacts[f"publish:{manifest.task}"] = found
    return Inputs(artifacts, None, champion, approvals={answer.task: answer for answer in answers})


def answer(manifest: Manifest, approved: bool) -> Approval:
    """What ada answered about a version."""
    return Approval(manifest.task, manifest.version, approved, "ada", "2026-11-20T20:30:00+00:00", "seen by hand")  # type: ignore[arg-type]


def _write(values: dict[str, Any]) -> Any:
    def body(settings: Settings, inputs: Inputs, out: Any) -> Report:
        out.json("version", values)
        return Report(Rows())

    return body


def test_the_stage_moves_what_the_gate_wants_to_serve_in_one_release(
    registry: Registry, tmp_path: Path, serving: Callable[..., None]
) -> None:
    """QC and QI with the verdict publish are one entry of the log; done again it is found finished."""
    manifests = [published(registry, tmp_path, task) for task in ("QC", "QI")]
    serving(Stand("http://a:1"))
    given = stage_inputs(registry.store, {}, *((manifest, "publish") for manifest in manifests))
    report = stage_module.run(SETTINGS, given, registry.store)
    release = registry.current()
    assert release is not None
    assert (release.number, release.versions) == (1, {manifest.task: manifest.version for manifest in manifests})
    assert release.why == "QC is better; QI is better"
    assert report.figures["tasks"]["QI"] == {"version": manifests[1].version, "promoted": True, "number": 1, "serves": True}
    assert stage_module.run(SETTINGS, given, registry.store).found


def test_the_stage_leaves_the_alias_to_a_person_where_the_gate_does(
    registry: Registry, tmp_path: Path, serving: Callable[..., None]
) -> None:
    """A version that needs approval is not proved and does not serve; the sibling with the verdict publish does."""
    qc, qi = (published(registry, tmp_path, task) for task in ("QC", "QI"))
    server = Stand("http://a:1")
    serving(server)
    stage_module.run(SETTINGS, stage_inputs(registry.store, {}, (qc, "publish"), (qi, "needs-approval")), registry.store)
    release = registry.current()
    assert release is not None
    assert release.versions == {"QC": qc.version}
    assert server.held == {qc.name}


def test_an_approved_version_serves_like_one_that_the_gate_lets_through(
    registry: Registry, tmp_path: Path, serving: Callable[..., None]
) -> None:
    """Unanswered, the stage lets QC serve; once QI is approved it is no finished work, and QI serves too, with who and why."""
    qc, qi = (published(registry, tmp_path, task) for task in ("QC", "QI"))
    serving(Stand("http://a:1"))
    verdicts = ((qc, "publish"), (qi, "needs-approval"))
    stage_module.run(SETTINGS, stage_inputs(registry.store, {}, *verdicts), registry.store)
    promoted = stage_inputs(registry.store, {}, *verdicts, answers=[answer(qi, approved=True)])
    report = stage_module.run(SETTINGS, promoted, registry.store)
    release = registry.current()
    assert release is not None
    assert release.versions == {"QC": qc.version, "QI": qi.version}
    assert release.why == "QC is better; QI is better; approved by ada: seen by hand"
    assert report.figures["tasks"]["QI"]["promoted"]
    assert report.figures["answers"] == {"QI": {"approved": True, "told": "approved by ada: seen by hand"}}


@pytest.mark.parametrize("case", ["rejected", "another version", "held"])
def test_what_is_not_approved_does_not_serve_and_its_sibling_does(
    registry: Registry, tmp_path: Path, serving: Callable[..., None], case: str
) -> None:
    """A no, a yes to another version, and a yes to what the gate holds let nothing serve; the sibling goes out alone."""
    qc, qi = (published(registry, tmp_path, task) for task in ("QC", "QI"))
    given = answer(qi, approved=case != "rejected")
    given = given._replace(version="0" * 16) if case == "another version" else given
    serving(Stand("http://a:1"))
    verdict = "hold" if case == "held" else "needs-approval"
    stage_module.run(SETTINGS, stage_inputs(registry.store, {}, (qc, "publish"), (qi, verdict), answers=[given]), registry.store)
    release = registry.current()
    assert release is not None
    assert release.versions == {"QC": qc.version}


def test_a_champion_that_moved_while_an_approval_waited_is_not_overruled(
    registry: Registry, tmp_path: Path, serving: Callable[..., None]
) -> None:
    """The approved version was judged against the first; the second serves by now: Conflict, with what to do."""
    first, second, third = (published(registry, tmp_path, data={"train": name}) for name in "abc")
    promote(registry, second)()
    serving(Stand("http://a:1"))
    given = stage_inputs(registry.store, {"QC": first.version}, (third, "needs-approval"), answers=[answer(third, approved=True)])
    with pytest.raises(Conflict, match=r"run the loop again.*relevance registry promote"):
        stage_module.run(SETTINGS, given, registry.store)


def test_a_champion_that_moved_since_the_gate_is_not_overruled(
    registry: Registry, tmp_path: Path, serving: Callable[..., None]
) -> None:
    """The gate knew the first version; the second serves by now: Conflict, and the second goes on."""
    first, second, third = (published(registry, tmp_path, data={"train": name}) for name in "abc")
    promote(registry, first)()
    promote(registry, second)()
    serving(Stand("http://a:1"))
    with pytest.raises(Conflict, match=second.version):
        stage_module.run(SETTINGS, stage_inputs(registry.store, {"QC": first.version}, (third, "publish")), registry.store)


def test_a_task_alone_on_a_new_base_waits_for_its_sibling(registry: Registry, tmp_path: Path, serving: Callable[..., None]) -> None:
    """QC on b2 while QI stands on b1 waits and says so; with serving.mixed_bases it serves."""
    olds = [published(registry, tmp_path, task) for task in ("QC", "QI")]
    promote(registry, *olds)()
    new = published(registry, tmp_path, base=BaseInfo(id="tiny", digest="b2"))
    serving(Stand("http://a:1"), Stand("http://c:1", label="tiny@b2"))
    given = stage_inputs(registry.store, {"QC": olds[0].version}, (new, "publish"))
    report = stage_module.run(SETTINGS, given, registry.store)
    assert report.figures["tasks"]["QC"]["promoted"] is False
    assert "QC on tiny@b2, QI on tiny@b1" in report.figures["waits"]
    apart = build({"serving": {"drain_seconds": 0, "mixed_bases": True}})
    assert stage_module.run(apart, given, registry.store).figures["tasks"]["QC"]["promoted"] is True


def test_a_finished_rollout_says_what_serves_now(registry: Registry, tmp_path: Path, serving: Callable[..., None]) -> None:
    """After a rollback a finished *rollout* is found, says that its version does not serve, and leaves the alias where it is."""
    old, new = (published(registry, tmp_path / name, "QC", data={"train": name}) for name in ("old", "new"))
    serving(Stand("http://a:1"))
    registry.promote({"QC": old.version}, who="ada", why="the first")
    given = stage_inputs(registry.store, {"QC": old.version}, (new, "publish"))
    assert stage_module.run(SETTINGS, given, registry.store).figures["tasks"]["QC"]["promoted"]
    registry.rollback("QC", who="ada", why="complaints")
    again = stage_module.run(SETTINGS, given, registry.store)
    release = registry.current()
    assert release is not None
    assert (again.found, again.figures["tasks"]["QC"]) == (
        True,
        {"version": new.version, "promoted": True, "number": 2, "serves": False},
    )
    assert (release.number, release.versions) == (3, {"QC": old.version})


def test_a_version_that_waited_is_tried_again_until_the_champion_moves(
    registry: Registry, tmp_path: Path, serving: Callable[..., None]
) -> None:
    """On a second base a version waits and each call tries again; once somebody moved the champion, the old output is found."""
    old, sibling = published(registry, tmp_path, "QC"), published(registry, tmp_path, "QI")
    registry.promote({"QC": old.version, "QI": sibling.version}, who="ada", why="the first")
    moved = published(registry, tmp_path, "QC", base=BaseInfo(id="tiny", digest="b2"))
    serving(Stand("http://a:1"))
    given = stage_inputs(registry.store, {"QC": old.version}, (moved, "publish"))
    first, again = (stage_module.run(SETTINGS, given, registry.store) for _ in range(2))
    assert "different bases" in first.figures["waits"]
    assert not again.found
    registry.promote({"QC": published(registry, tmp_path, "QC", data={"train": "third"}).version}, who="ada", why="another")
    assert stage_module.run(SETTINGS, given, registry.store).found
