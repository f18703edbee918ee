"""What *publish* does with each verdict, and that doing it twice comes out right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from relevance_core.config import Settings, build
from relevance_core.metrics import Gain
from relevance_core.pairs import Task
from relevance_core.prompts import prompt_from
from relevance_core.registry import Registry
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.stages.publish import prompt_info, run
from relevance_core.store import Store
from tests.support.registry_cases import make_adapter
from tests.support.stage_cases import by_role

SETTINGS = build({"window": {"end": "2026-10-08"}})
BASE = {"id": "tiny", "model": "builtin:tiny", "revision": "0123", "address": "stages/base/0123", "digest": "f" * 64}
FIGURES = {"threshold": 0.41, "f1": 0.93, "always_yes_f1": 0.8, "per_language": {"en": {"f1": 0.93}}, "champion": None}
GAIN = Gain(0.021, 0.004, 0.04, 0.98)


def output(store: Store, name: str, task: Task | None, write: Any, figures: dict[str, Any] | None = None) -> Artifact:
    """A finished output of a stage; its `write` gets the output to fill."""

    def body(settings: Settings, inputs: Inputs, out: Output) -> Report:
        write(out)
        return Report(Rows(), figures or {})

    made = stage(name, uses=())(body)
    found = open_artifact(store, made(SETTINGS, Inputs(task=task), store).address)
    assert found is not None
    return found


def inputs(
    store: Store,
    folder: Path,
    verdict: str,
    task: Task = "QC",
    champion: dict[str, str] | None = None,
    value: float = 1.0,
    dtype: str = "float32",
) -> Inputs:
    """What the stage reads: an adapter, the English and German rows (of each `value` others) it was trained on, and a verdict."""
    adapter = make_adapter(folder)

    def trained(out: Output) -> None:
        out.folder("adapter", adapter)
        out.json("training", {"dtype": dtype})

    gain = GAIN.as_json() if champion else None
    rows = pl.DataFrame({"language": ["en", "de", "en"], "value": [value] * 3})
    artifacts = {
        "base": output(store, "base", None, lambda out: out.json("base", BASE)),
        "translate": output(store, "translate", None, lambda out: out.table("dev", rows)),
        "denoise": output(store, f"denoise{value}", task, lambda out: out.table("train", rows)),
        "train": output(store, f"train{value}-{dtype}", task, trained),
        "evaluate": output(store, "evaluate", task, lambda out: out.json("metrics", FIGURES), FIGURES),
        "gate": output(
            store,
            f"gate-{verdict}-{len(champion or {})}",
            task,
            lambda out: out.json("verdict", {"verdict": verdict, "reasons": [], "gain": gain}),
        ),
    }
    return Inputs(by_role("publish", artifacts), task, champion or {}, ("de", "it"))


def test_the_first_version_is_published_and_does_not_serve_yet(store: Store, tmp_path: Path) -> None:
    """The version is in the registry, intact, with the reason to let it serve and its numbers; the alias is left to *rollout*."""
    report = run(SETTINGS, inputs(store, tmp_path / "a", "publish"), store)
    registry, version = Registry(store), report.figures["version"]
    assert report.figures == {"version": version, "published": True}
    assert registry.verify("QC", version) == []
    assert registry.current() is None
    assert told(store, report)["why"] == "QC F1 0.9300, always yes 0.8000; the first version"


def test_the_reason_to_replace_a_champion_has_its_interval(store: Store, tmp_path: Path) -> None:
    """The mean gain of the paired bootstrap with its bounds."""
    report = run(SETTINGS, inputs(store, tmp_path / "a", "publish", champion={"QC": "0" * 16}), store)
    assert told(store, report)["why"].endswith("+0.0210 over the champion (95 % interval +0.0040 to +0.0400)")


def told(store: Store, report: Report) -> Any:
    """The stage's `version.json`."""
    found = open_artifact(store, report.address)
    assert found is not None
    return found.json("version")


def test_the_manifest_holds_what_decides_a_score_and_what_was_measured(store: Store, tmp_path: Path) -> None:
    """Base, prompt, threshold, trained and onboarded languages, digests of the data, figures, verdict, and the window's end."""
    given = inputs(store, tmp_path / "a", "publish")
    manifest = Registry(store).manifest("QC", run(SETTINGS, given, store).figures["version"])
    assert (manifest.base.id, manifest.base.revision, manifest.base.uri) == ("tiny", "0123", "stages/base/0123")
    assert (manifest.base.digest, manifest.dtype, manifest.requires) == ("f" * 64, "float32", ("dtype", "text_rule"))
    assert (manifest.prompt.name, manifest.prompt.version, manifest.prompt.translation) == ("compact", "1", False)
    assert (manifest.threshold, manifest.languages, manifest.onboarded) == (0.41, ("de", "en"), ("de",))
    assert manifest.data == {
        "train": given["rows"].files["train.parquet"]["sha256"],
        "dev": given["dev"].files["dev.parquet"]["sha256"],
    }
    assert (manifest.metrics["f1"], manifest.gate["verdict"]) == (0.93, "publish")
    assert manifest.created == "2026-10-08T00:00:00+00:00"


def test_a_version_that_needs_approval_is_written_and_does_not_serve(store: Store, tmp_path: Path) -> None:
    """A person can promote it by its id; until then nothing serves."""
    report = run(SETTINGS, inputs(store, tmp_path / "a", "needs-approval"), store)
    registry, version = Registry(store), report.figures["version"]
    assert report.figures == {"version": version, "published": True}
    assert registry.current() is None
    assert registry.promote({"QC": version}, who="somebody", why="looked at it").versions == {"QC": version}


def test_a_held_version_leaves_no_trace_but_its_name(store: Store, tmp_path: Path) -> None:
    """Nothing is written into the registry, and the id is the one that publishing would have given."""
    held = run(SETTINGS, inputs(store, tmp_path / "a", "hold"), store)
    assert held.figures["published"] is False
    assert Registry(store).version_ids("QC") == []
    published = run(SETTINGS, inputs(store, tmp_path / "b", "publish"), store)
    assert published.figures["version"] == held.figures["version"]


def test_a_run_that_was_killed_after_it_published_just_does_it_again(store: Store, tmp_path: Path) -> None:
    """Without the stage's manifest it runs once more and ends with the same output; the registry holds the one version."""
    given = inputs(store, tmp_path / "a", "publish")
    first = run(SETTINGS, given, store)
    for entry in list(store.list(first.address + "/")):
        store.delete(entry.key)
    again = run(SETTINGS, given, store)
    assert (again.digest, again.figures) == (first.digest, first.figures)
    assert Registry(store).version_ids("QC") == [first.figures["version"]]


def test_a_prompt_with_the_translation_names_its_translator_and_memory(store: Store) -> None:
    """Scoring finds the same translator again by what the manifest says."""
    translate = output(store, "translate", None, lambda out: None, {"translator": {"name": "glossary", "version": "0a1b"}})
    plain, translated = (prompt_from(build({"prompt": {"translation": translation}})) for translation in (False, True))
    info = prompt_info(translated, translate)
    assert (info.translation, info.translator, info.memory) == (True, "glossary-0a1b", "memory/glossary-0a1b")
    assert prompt_info(plain, translate).translator == ""


def test_a_version_whose_files_were_deleted_is_published_again(store: Store, tmp_path: Path) -> None:
    """A finished *publish* is held against the registry: found while the version is whole, done again once files are gone."""
    given, registry = inputs(store, tmp_path / "adapter", "publish"), Registry(store)
    report = run(SETTINGS, given, store)
    version = report.figures["version"]
    assert run(SETTINGS, given, store).found
    store.delete(f"adapters/qc/{version}/adapter_model.safetensors")
    store.delete(f"adapters/qc/{version}/manifest.json")
    again = run(SETTINGS, given, store)
    assert (again.found, again.digest) == (False, report.digest)
    assert registry.verify("QC", version) == []
