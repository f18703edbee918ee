"""A version ready to score: opened in its own dtype, and refused where its base, tokenizer or this release is not what it needs.

One small shop, whose base is a folder: what a person may swap under everybody's feet.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from relevance_core.config import EngineSettings, Settings, build
from relevance_core.errors import ModelError, RegistryError
from relevance_core.machine import free_port, require_python
from relevance_core.models.folders import digest_of_model
from relevance_core.prompts import prompt_from
from relevance_core.registry import Manifest, Registry, golden
from relevance_core.registry.adapter_files import MANIFEST
from relevance_core.registry.manifest import canonical, version_of
from relevance_core.registry.versions import file_key
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.scoring import bases
from relevance_core.scoring.opened import open_candidate, open_version, trainers
from relevance_core.scoring.scorer import Scorer
from relevance_core.serving import checks, server
from relevance_core.serving.client import ScoringClient
from relevance_core.serving.prompts import Pair, open_prompts
from relevance_core.serving.rollout import Proof, roll_out
from relevance_core.serving.serve import Plan, serve
from relevance_core.stages import base as base_stage
from relevance_core.stages.evaluate import run as evaluate
from relevance_core.stages.evaluate import score_with
from relevance_core.stages.publish import describe
from relevance_core.stages.train.stage import run as train
from relevance_core.store import Store, open_store
from tests.support.models_fixture import make_tokenizer, signal_rows
from tests.support.serving_cases import save_base
from tests.support.stage_cases import by_role
from tests.support.stand_in import StandIn, expected

PAIRS = [Pair("en", "red shoes", "Sports > Shoes"), Pair("de", "blauer mantel", "Clothing > Coats")]
QUERIES = pl.DataFrame([("QC", *pair) for pair in PAIRS], schema=["task", "language", "query", "target"], orient="row")
FIGURES = {"threshold": 0.5, "f1": 0.5, "always_yes_f1": 0.5, "champion": None, "per_language": {}}


def settings(base: Path, dtype: str = "auto", **changes: Any) -> Settings:
    """Of a run on a base in a folder, on a CPU, where no vLLM is."""
    values: dict[str, Any] = {
        "base": {"model": str(base), "dtype": dtype},
        "train": {"epochs": 1, "r": 2, "alpha": 64, "learning_rate": 0.01},
        "prompt": {"template": "compact", "max_tokens": 64, "translation": False},
        "engine": {"device": "cpu"},
        "serving": {"python": "", "drain_seconds": 0},
        "window": {"end": "2026-10-08"},
    }
    return build(values | changes)


@dataclass
class Shop:
    """A base in a folder and the versions that were trained on it."""

    folder: Path
    store: Store

    @property
    def base(self) -> Path:
        return self.folder / "base"

    @property
    def registry(self) -> Registry:
        return Registry(self.store)

    def artifact(self, name: str, fill: Callable[[Output], object], figures: Any = None, task: Any = None) -> Artifact:
        def body(settings: Settings, inputs: Inputs, out: Output) -> Report:
            fill(out)
            return Report(Rows(), figures or {})

        made = stage(name, uses=())(body)
        found = open_artifact(self.store, made(Settings(), Inputs(task=task), self.store).address)
        assert found is not None
        return found

    def trained(self, dtype: str) -> Inputs:
        """The outputs that *publish* reads, of a training in a dtype."""
        used, rows = settings(self.base, dtype), signal_rows(60)
        named = open_artifact(self.store, base_stage.run(used, Inputs(), self.store).address)
        parts = pl.Series(["calibration", "judgement"] * 30)
        found = {
            "base": named,
            "translate": self.artifact("translate", lambda out: out.table("dev", rows.with_columns(part=parts))),
            "denoise": self.artifact("denoise", lambda out: out.table("train", rows), task="QC"),
        }
        found = {name: artifact for name, artifact in found.items() if artifact}
        report = train(used, Inputs(by_role("train", found), "QC"), self.store)
        artifact = open_artifact(self.store, report.address)
        assert artifact is not None
        verdict = {"verdict": "publish", "reasons": [], "gain": None}
        more = {
            "train": artifact,
            "evaluate": self.artifact("evaluate", lambda out: out.json("metrics", FIGURES), FIGURES, "QC"),
            "gate": self.artifact("gate", lambda out: out.json("verdict", verdict), task="QC"),
        }
        both = found | more
        return Inputs(by_role("evaluate", both) | by_role("publish", both), "QC")

    def publish(self, inputs: Inputs, dtype: str) -> Manifest:
        meta = describe(settings(self.base, dtype), inputs)
        return self.registry.publish("QC", inputs["adapter"].folder("adapter"), meta)

    def roll_out(self, manifest: Manifest) -> Proof:
        """As the stage *rollout* does where no server is: the trainer's scorer proves it, then the alias moves."""

        def move() -> Any:
            return self.registry.promote({"QC": manifest.version}, who="test", why="test")

        return roll_out(self.registry, {"QC": manifest.version}, move, settings(self.base))[1][0]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, dict[str, Inputs], dict[str, Manifest]]:
    folder = tmp_path_factory.mktemp("shop")
    shop = Shop(folder, open_store(str(folder / "store")))
    save_base(shop.base)
    inputs = {dtype: shop.trained(dtype) for dtype in ("float32", "bfloat16")}
    return shop, inputs, {dtype: shop.publish(found, dtype) for dtype, found in inputs.items()}


@pytest.fixture
def shop(made: tuple[Shop, Any, Any]) -> Shop:
    return made[0]


@pytest.fixture
def versions(made: tuple[Any, Any, dict[str, Manifest]]) -> dict[str, Manifest]:
    return made[2]


@pytest.fixture
def swap(shop: Shop) -> Any:
    """Puts other files into the base's folder; the test's end brings its own back."""
    kept = shutil.copytree(shop.base, shop.folder / "kept")

    def put(kind: str) -> None:
        if kind == "tokenizer":
            other = make_tokenizer(["weiß", "shoes shoes red red category query: Sports Clothing Coats blauer mantel"] * 9)
            other.save_pretrained(shop.base)
        else:
            save_base(shop.base, seed=7)

    yield put
    shutil.rmtree(shop.base)
    kept.rename(shop.base)


def score(shop: Shop, version: Manifest) -> object:
    return score_with(shop.store, version, QUERIES, settings(shop.base))


def put_to_serve(shop: Shop, version: Manifest) -> object:
    serving = settings(shop.base, serving={"python": sys.executable}).serving
    return serve(shop.registry, Plan(version.name, port=0), serving, shop.folder / "work")


def ask(shop: Shop, version: Manifest) -> object:
    with ScoringClient(shop.store, ["http://127.0.0.1:9"]) as client:
        return client.score("QC", PAIRS, version=version.version)


DOORS: dict[str, Callable[[Shop, Manifest], object]] = {
    "score": score,
    "rollout": Shop.roll_out,
    "serve": put_to_serve,
    "client": ask,
}


FILES = r"the files of the base .*base@\w{16} are not those that it was trained with"


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["tokenizer", "weights"])
def test_a_swapped_base_is_refused_at_every_door(
    shop: Shop, versions: dict[str, Manifest], swap: Any, monkeypatch: pytest.MonkeyPatch, door: str, kind: str
) -> None:
    """Another tokenizer or other weights in the base's folder: score, rollout, serve and client refuse it by what differs.

    With a digest the files alone are compared, the tokenizer's among them.
    """
    monkeypatch.setattr(server, "gpus_of", lambda python: 0)
    swap(kind)
    with pytest.raises(ModelError, match=FILES):
        DOORS[door](shop, versions["float32"])


def test_another_tokenizer_is_found_without_the_weights_too(shop: Shop, versions: dict[str, Manifest], swap: Any) -> None:
    """A client's machine that has only the tokenizer: the right one makes prompts, the wrong one is refused."""
    for path in shop.base.glob("*.safetensors"):
        path.unlink()
    version = versions["float32"].version
    assert len(open_prompts(shop.store, "QC", version, None).encode(PAIRS)) == 2
    swap("tokenizer")
    with pytest.raises(ModelError, match="makes other tokens of golden pair"):
        open_prompts(shop.store, "QC", version, None)


def test_what_decides_no_score_may_change(shop: Shop, versions: dict[str, Manifest], swap: Any) -> None:
    """A README, a hidden file and the settings of text generation beside the model: the version is scored as before."""
    before = score(shop, versions["float32"])
    for name in ("README.md", ".cache", "generation_config.json", "LICENSE"):
        (shop.base / name).write_text("{}")
    assert (before == score(shop, versions["float32"])).all()  # type: ignore[attr-defined]


def test_a_bfloat16_version_rolls_out_on_a_cpu(shop: Shop, versions: dict[str, Manifest]) -> None:
    """Trained in bfloat16, it is proved in bfloat16. Opened in float32, as before manifests told, it would be too far off."""
    version = versions["bfloat16"]
    assert (version.dtype, version.requires) == ("bfloat16", ("dtype", "text_rule"))
    proof = shop.roll_out(version)
    assert (proof.engine, proof.pairs, proof.tolerance) == ("transformers", 32, 3e-2)
    assert proof.largest < 1e-3
    served = shop.registry.current()
    assert served is not None
    assert served.versions == {"QC": version.version}
    opened = open_version(shop.store, version, trainers(settings(shop.base)))
    exact = replace(opened, base=replace(opened.base, dtype="float32")).scorer
    pairs = golden.load(shop.registry, version)
    assert np.abs(exact.score_ids([list(ids) for ids in pairs.prompts]) - pairs.p).max() > 1e-3


def test_candidate_and_champion_answer_in_their_own_dtype(made: tuple[Shop, dict[str, Inputs], dict[str, Manifest]]) -> None:
    """A bfloat16 candidate beside a float32 champion, in a run with base.dtype float32: each answers as where it was trained."""
    shop, inputs, versions = made
    used = replace(inputs["bfloat16"], champion={"QC": versions["float32"].version})
    report = evaluate(settings(shop.base, "float32"), used, shop.store)
    artifact = open_artifact(shop.store, report.address)
    assert artifact is not None
    texts = used["dev"].table("dev").sort("pair_id").select("task", "query", "target", "english").rows()
    for column, dtype in (("p", "bfloat16"), ("champion_p", "float32")):
        adapter = inputs[dtype]["adapter"].folder("adapter")
        own = Scorer(shop.base, adapter, prompt_from(settings(shop.base)), EngineSettings(device="cpu"), dtype=dtype)
        assert own.dtype == dtype
        assert artifact.table("scores")[column].to_list() == pytest.approx(own.score(texts), abs=1e-6)


def test_the_client_scores_a_bfloat16_version(shop: Shop, versions: dict[str, Manifest]) -> None:
    """A server of its base answers the version's own prompts under its name."""
    version = versions["bfloat16"]
    prompts = open_prompts(shop.store, "QC", version.version, None).encode(PAIRS)
    running = StandIn(version.base.label).start()
    try:
        with ScoringClient(shop.store, [running.url]) as client:
            scores = client.score("QC", PAIRS, version=version.version)
    finally:
        running.stop()
    assert scores.p.tolist() == pytest.approx([expected(version.name, ids) for ids in prompts])


@pytest.mark.serving
@pytest.mark.slow
def test_a_bfloat16_version_is_served_by_vllm_on_a_cpu(shop: Shop, versions: dict[str, Manifest]) -> None:
    """A real server, started for the version, runs in bfloat16; the version is rolled out on it and scored by the client there."""
    version, serving = versions["bfloat16"], settings(shop.base, serving={"python": "auto", "drain_seconds": 0}).serving
    with server.LocalServer.start(
        server.spec_for(shop.store, [version], serving, port=free_port()), require_python(serving)
    ) as running:
        running.wait()
        used = settings(shop.base, serving={"endpoints": [running.url], "drain_seconds": 0})

        def move() -> Any:
            return shop.registry.promote({"QC": version.version}, who="test", why="test")

        (proof,) = roll_out(shop.registry, {"QC": version.version}, move, used)[1]
        with ScoringClient(shop.store, [running.url]) as client:
            scores = client.score("QC", PAIRS, version=version.version)
    assert (running.spec.dtype, proof.engine, proof.tolerance) == ("bfloat16", "vLLM", 3e-2)
    assert np.abs(scores.p - score_with(shop.store, version, QUERIES, used).to_numpy()).max() < 3e-2


def test_a_server_runs_in_the_dtype_of_what_it_is_started_for(
    shop: Shop, versions: dict[str, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU or a GPU: bfloat16 for a bfloat16 version, float32 where one of two is, and the setting's where there is one."""
    exact, half = versions["float32"], versions["bfloat16"]
    for gpus in (0, 1):
        monkeypatch.setattr(server, "gpus_of", lambda python, there=gpus: there)
        found = [dtype_for(shop, these) for these in ([half], [exact], [half, exact])]
        assert found == ["bfloat16", "float32", "float32"]
    assert dtype_for(shop, [exact], dtype="bfloat16") == "bfloat16"


def dtype_for(shop: Shop, these: list[Manifest], **serving: Any) -> str:
    """Of a server that is started for these versions."""
    asked = settings(shop.base, serving={"python": sys.executable} | serving).serving
    return server.spec_for(shop.store, these, asked, port=8123, work=shop.folder / "spec").dtype


def test_a_feature_that_this_release_does_not_know_refuses_the_version_by_name(shop: Shop, versions: dict[str, Manifest]) -> None:
    """A version that requires calibration is listed and verified; who scores it is told what, where, expected, and to upgrade."""
    newer = stored(shop, versions["float32"], {"requires": ["calibration", "dtype"], "threshold": 0.61, "calibration": {"a": 1.5}})
    assert newer.version in shop.registry.version_ids("QC")
    assert shop.registry.verify("QC", newer.version) == []
    told = rf"{newer.name} can't be scored rightly here: it requires calibration; where: requires .*expected: .*dtype.*upgrade"
    for door in (score, Shop.roll_out, ask):
        with pytest.raises(RegistryError, match=told):
            door(shop, newer)
    with pytest.raises(RegistryError, match=told):
        checks.check_stated(newer, checks.ServedBase(newer.base.label, shop.base), 32)


def test_a_server_of_other_files_under_the_same_name_refuses_the_version(shop: Shop, versions: dict[str, Manifest]) -> None:
    """Label and revision are the same, as of a Hugging Face branch that has moved: the digests tell the two bases apart."""
    version = versions["float32"]
    checks.check_stated(version, checks.ServedBase(version.base.label, shop.base, version.base.digest), 32)
    with pytest.raises(RegistryError, match=rf"{version.name} was trained on other files of the base .*expected: the digest ffff"):
        checks.check_stated(version, checks.ServedBase(version.base.label, shop.base, "f" * 64), 32)


def test_unknown_fields_are_passed_over_and_covered_by_the_digest(shop: Shop, versions: dict[str, Manifest]) -> None:
    """A field of a later release, at the top and in a part, changes no score; edited afterwards, it is found."""
    old = versions["float32"]
    base = old.to_json()["base"] | {"licence": "MIT"}
    newer = stored(shop, old, {"note": {"by": "ada"}, "base": base, "threshold": 0.62})
    assert shop.registry.manifest("QC", newer.version).to_bytes() == newer.to_bytes()
    assert (score(shop, newer) == score(shop, old)).all()  # type: ignore[attr-defined]
    for edit in ({"note": {"by": "bob"}}, {"base": base | {"licence": "none"}}):
        shop.store.write(file_key(newer, MANIFEST), json.dumps(newer.to_json() | edit).encode())
        with pytest.raises(RegistryError, match="changed after it was written"):
            shop.registry.manifest("QC", newer.version)
    shop.store.write(file_key(newer, MANIFEST), newer.to_bytes())


def stored(shop: Shop, version: Manifest, changes: dict[str, Any]) -> Manifest:
    """The files of a version under a manifest as a later release writes it."""
    fields = {name: value for name, value in (version.to_json() | changes).items() if name not in ("digest", "version")}
    fields["version"] = version_of(fields)
    newer = Manifest.model_validate(fields | {"digest": hashlib.sha256(canonical(fields)).hexdigest()})
    for name in version.files:
        shop.store.write(file_key(newer, name), shop.store.read(file_key(version, name)))
    shop.store.write(file_key(newer, MANIFEST), newer.to_bytes())
    return newer


def test_a_version_without_dtype_digest_and_texts_is_opened_as_what_it_was(
    shop: Shop, versions: dict[str, Manifest], swap: Any
) -> None:
    """A manifest of format 1 tells neither dtype nor digest: it is opened in the device's, and no files are compared."""
    fields = {name: value for name, value in versions["float32"].to_json().items() if name not in ("dtype", "requires", "format")}
    old = Manifest.model_validate(fields | {"schema_version": 1, "files": {**fields["files"]}})
    swap("weights")
    opened = open_version(shop.store, old, trainers(settings(shop.base)))
    assert (old.format, old.dtype, opened.base.dtype, opened.digest) == (1, None, "auto", "")


def test_the_digest_is_of_content_not_of_place_or_order(tmp_path: Path) -> None:
    """The same files elsewhere, listed in another order, have the same digest; another name, another byte or no weights another."""
    files = {"model.safetensors": "a" * 64, "config.json": "b" * 64, "tokenizer.json": "c" * 64}
    digest = digest_of_model(files)
    assert digest == digest_of_model(dict(reversed(files.items())))
    assert digest == digest_of_model(files | {"README.md": "d" * 64, ".gitattributes": "d" * 64, "vocab.json": "d" * 64})
    others = [files | {name: "e" * 64} for name in files] + [files | {"model-2.safetensors": "a" * 64}]
    assert len({digest, *map(digest_of_model, others)}) == 5
    assert digest_of_model({name: files[name] for name in ("config.json", "tokenizer.json")}) == ""


def test_a_digest_is_remembered_until_a_file_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest is found again while no file changes; a file of the last two seconds, or one whose time was set back, is read."""
    folder, weights = tmp_path, tmp_path / "model.safetensors"
    weights.write_text("one")
    fresh = bases.digest_of_base(folder)
    state = weights.stat()
    weights.write_text("two")
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert bases.digest_of_base(folder) != fresh
    clock = time.time_ns() + 10**10
    monkeypatch.setattr("relevance_core.scoring.bases.time.time_ns", lambda: clock)
    settled = bases.digest_of_base(folder)
    monkeypatch.setattr(bases, "digest_of_model", lambda files: "read again")
    assert bases.digest_of_base(folder) == settled
    weights.write_text("six")
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert bases.digest_of_base(folder) == "read again"


def test_a_changed_base_is_refused_by_the_stages_that_it_was_named_for(made: Any, swap: Any) -> None:
    """Other weights in the folder after *base* ran: the output of *base* can't be opened, and a candidate can't be scored."""
    shop, inputs, _ = made
    swap("weights")
    with pytest.raises(ModelError, match="are not those that it was trained with"):
        open_candidate(settings(shop.base), inputs["float32"]["base"], inputs["float32"]["adapter"])
    named = base_stage.run(settings(shop.base), Inputs(), shop.store)
    assert named.address != inputs["float32"]["base"].address
