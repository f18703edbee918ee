"""The *base* stage: finds the base model that the adapters stand on, or builds the builtin one."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from relevance_core import pairs
from relevance_core.config import BuiltinSettings, EngineSettings, Settings
from relevance_core.errors import ModelError
from relevance_core.models.base_ref import BaseRef
from relevance_core.models.folders import digest_of_model
from relevance_core.processes import PartLogger, cores, map_processes, part
from relevance_core.prompts import Prompt, prompt_from
from relevance_core.registry import Registry
from relevance_core.runs.artifacts import Output, Report, Rows, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.scoring.bases import digest_of_base, folder_of
from relevance_core.scoring.english import with_english

if TYPE_CHECKING:
    from relevance_core.models.tiny.halves import Halves
    from relevance_core.models.tiny.text import Corpus

log = PartLogger(logging.getLogger(__name__))

BUILTIN: Final = "builtin:tiny"
PAIR: Final = ("task", "language", "query", "target")
_ACCIDENT_SHARE: Final = 0.2
_DIGITS: Final = 16
_MODEL: Final = "model/"
_LEAST_SHARED: Final = 8000


def _fingerprint(settings: Settings) -> str:
    """Returns the digest of the files of a base that is not built here, "" for the builtin base."""
    return "" if settings.base.model == BUILTIN else _found(settings)[1]


@stage(
    "base",
    uses=("base", "prompt", "split.dev_share", "denoise.enabled", "denoise.mode", "denoise.folds", "seed", "tasks"),
    machine=("engine", "serving"),
    pinned=("champion", "onboarded"),
    version=3,
    fingerprint=_fingerprint,
)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Finds or builds the base: leaves `base.json` and, for a base built here, the folders `model/` and `fold-0/`, `fold-1/`, …

    How it works. `base.model` = builtin:tiny is built from scratch (models.tiny) on click logs and the catalogue. Three kinds of
    clicks are left out: those of a query on the dev side; those in a language without training rows, which count once the language
    is onboarded; and those of a target whose clicks for the query are at most a fifth of the most clicked target's. Translated
    training rows with label 1 come in as clicks of their language. Where there are no clicks, all training rows with label 1 are
    the text: then the base has seen labels, and for out-of-fold filtering a further base is built for each fold, without that
    fold's queries and with half the documents, side by side. The champion's builtin base is reused when it was made by the same
    recipe and knows every language of the training rows: a new night brings no new base, a new language does. For a Hugging Face id
    or folder, `base.json` only names it, with the digest of its files where they are on this machine.

    What it does not do. It reads no dev query, no negative label and no truth. It does not download a model.

    Known limits. A reused builtin base has not seen the words that are new since it was built.
    """
    if settings.base.model != BUILTIN:
        return _named(settings, out)
    languages = inputs["rows"].table("train", ["language"])["language"].unique().sort().to_list()
    found = _champions_base(settings, inputs, out, languages)
    if found is not None:
        log.info("the champion's %s knows %s; taken again", found["id"], ", ".join(found["languages"]))
        out.json("base", found)
        return Report(Rows(), _figures(found) | {"built": False})
    text = _text(settings, inputs, languages)
    builds = _builds(settings, text, out)
    for build, figures in zip(builds, map_processes(make, builds, settings.engine.workers), strict=True):
        out.folder(build.name, build.folder)
        if build.name == "model":
            whole = figures
    about = _about(settings, inputs, text, out, len(builds) - 1, languages) | {"figures": whole}
    out.json("base", about)
    return Report(text.rows, _figures(about) | {"built": True, "text": text.figures})


@dataclass(frozen=True)
class Text:
    """The text of the builtin base.

    positives: the pairs, with the columns of PAIR, `english` and `group`. catalogue: `task`, `target_id` and `target`. clicks: True
    where the pairs come from click logs. rows: the row counts for the stage's report.
    """

    positives: pl.DataFrame
    catalogue: pl.DataFrame
    clicks: bool
    rows: Rows

    @property
    def figures(self) -> dict[str, Any]:
        """The source of the text, and the distinct pairs by task and language."""
        found: dict[str, Any] = {"source": "clicks" if self.clicks else "positive training rows"}
        for task, language, count in self.positives.group_by("task", "language").len().sort("task", "language").iter_rows():
            found.setdefault(task, {})[language] = count
        return found

    def corpus(self, without_fold: int | None, folds: int) -> Corpus:
        """Returns the corpus; with `without_fold`, leaves out the pairs of that fold's queries."""
        from relevance_core.models.tiny.text import Corpus

        kept = self.positives
        if without_fold is not None:
            groups = kept["group"].unique().to_list()
            fold = kept["group"].replace_strict(groups, [pairs.fold_of(g, folds) for g in groups], return_dtype=pl.Int64)
            kept = kept.filter(fold != without_fold)
        return Corpus(kept.drop("group"), self.catalogue)


@dataclass(frozen=True)
class Build:
    """A base to build, picklable so that a process of its own can build it."""

    name: str
    corpus: Corpus
    settings: BuiltinSettings
    prompt: Prompt
    engine: EngineSettings
    seed: int
    share: float
    folder: Path
    processes: int = 1


def make(build: Build) -> dict[str, Any]:
    """Builds the base in its folder and returns its figures; a base that is finished there is found again."""
    from relevance_core.models.tiny.halves import ALONE

    done = build.folder.with_suffix(".json")
    if not done.exists():
        shutil.rmtree(build.folder, ignore_errors=True)
        figures = make_on_two(build) if worth_two(build) else _make(build, ALONE)
        unfinished = done.with_suffix(".part")
        unfinished.write_text(json.dumps(figures))
        unfinished.rename(done)
    return dict(json.loads(done.read_text()))


def make_on_two(build: Build) -> dict[str, Any]:
    """Builds the base with a second process that computes half of each step."""
    from relevance_core.models.tiny.halves import with_another

    with with_another(functools.partial(_make, build)) as halves:
        return _make(build, halves)


def _make(build: Build, halves: Halves) -> dict[str, Any]:
    from relevance_core.models import lm
    from relevance_core.models.tiny import build as tiny

    lm.prepare(build.engine, build.seed)
    with part(build.name):
        return tiny.build(build.corpus, build.settings, build.prompt, build.seed, build.folder, build.share, halves)


def worth_two(build: Build) -> bool:
    """Tells whether a second process saves more time than its interpreter takes to start, and has a core to run on."""
    from relevance_core.models.tiny.build import size_of

    return build.processes > 1 and build.share * size_of(build.corpus, build.settings).documents >= _LEAST_SHARED


def _builds(settings: Settings, text: Text, out: Output) -> list[Build]:
    """Lists the whole base and, where labels went into it, a base for each fold."""
    denoise = settings.denoise
    folds = denoise.folds if not text.clicks and denoise.enabled and denoise.mode == "out-of-fold" else 0
    out.work.mkdir(parents=True, exist_ok=True)
    corpus, prompt, folder = text.corpus(None, 0), prompt_from(settings), out.work / "model"
    processes = (settings.engine.workers or cores()) // (1 + folds)
    whole = Build("model", corpus, settings.base.builtin, prompt, settings.engine, settings.seed, 1.0, folder, processes)
    parts = [
        replace(whole, name=name, corpus=text.corpus(j, folds), share=0.5, folder=out.work / name)
        for j, name in enumerate(f"fold-{j}" for j in range(folds))
    ]
    return [whole, *parts]


def _text(settings: Settings, inputs: Inputs, languages: Sequence[str]) -> Text:
    """Collects clicks and translated positives, or all positives where there are no clicks. languages: of the training rows."""
    source = inputs["source"]
    columns = [*PAIR, "english", "group"]
    tasks = list(settings.tasks)
    labelled = (
        inputs["rows"].table("train", [*columns, "label", "origin"]).filter((pl.col("label") == 1) & pl.col("task").is_in(tasks))
    )
    clicks = source.table("clicks").filter(pl.col("task").is_in(tasks))
    catalogue = source.table("catalogue").filter(pl.col("task").is_in(tasks)).select("task", "target_id", "target")
    if clicks.is_empty():
        reasons: dict[str, int] = {}
        kept, incoming = labelled.select(columns), labelled.height
    else:
        translated = labelled.filter(pl.col("origin") == "translation").select(columns)
        used, reasons = _without(clicks, languages, settings)
        kept = pl.concat([with_english(used, settings, inputs["translator"]).select(columns), translated])
        incoming = clicks.height + translated.height
    distinct = kept.unique(PAIR, keep="first", maintain_order=True).sort(PAIR)
    repeats = {"dropped: repeat of a pair": kept.height - distinct.height}
    reasons = {name: count for name, count in (reasons | repeats).items() if count}
    rows = Rows(incoming, 0, distinct.height, 0, sum(reasons.values()), reasons)
    return Text(distinct, catalogue, not clicks.is_empty(), rows)


def _without(clicks: pl.DataFrame, languages: Sequence[str], settings: Settings) -> tuple[pl.DataFrame, dict[str, int]]:
    """Returns the distinct clicked pairs with `group`, and the number of rows left out by reason."""
    known = clicks.filter(pl.col("language").is_in(languages))
    grouped = pairs.with_groups(known)
    groups = grouped["group"].unique().to_list()
    sides = [pairs.side_of(group, settings.split.dev_share) for group in groups]
    train = grouped.filter(pl.col("group").replace_strict(groups, sides, return_dtype=pl.String) == "train")
    counted = train.group_by(*PAIR, "group").len("clicks")
    most = pl.col("clicks").max().over("task", "language", "query")
    meant = counted.filter(pl.col("clicks") > _ACCIDENT_SHARE * most)
    return meant.drop("clicks"), {
        "dropped: click in a language without training rows": clicks.height - known.height,
        "dropped: click of a dev query": grouped.height - train.height,
        "dropped: click that stands alone": sum(counted["clicks"]) - sum(meant["clicks"]),
        "dropped: repeat of a click": sum(meant["clicks"]) - meant.height,
    }


def _recipe(settings: Settings, inputs: Inputs) -> dict[str, Any]:
    """Returns the settings and versions that a builtin base depends on, beside its text."""
    prompt = prompt_from(settings)
    return {
        "base": {"model": settings.base.model} | settings.base.builtin.model_dump(mode="json"),
        "prompt": prompt.as_json(),
        "translator": inputs["translator"].report.figures["translator"] if prompt.translation else None,
        "seed": settings.seed,
    }


def _about(settings: Settings, inputs: Inputs, text: Text, out: Output, folds: int, languages: Sequence[str]) -> dict[str, Any]:
    """Returns the content of `base.json` for a base that was built here."""
    files = {name: info["sha256"] for name, info in sorted(out.files.items()) if name.startswith(_MODEL)}
    digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()[:_DIGITS]
    known = sorted({*languages, *text.positives["language"].unique().to_list()})
    return {
        "id": f"{BUILTIN}@{digest}",
        "model": BUILTIN,
        "revision": digest,
        "digest": _content(out.files),
        "address": out.address,
        "languages": known,
        "tasks": list(settings.tasks),
        "translation": settings.prompt.translation,
        "template": settings.template(),
        "folds": folds,
        "labels": not text.clicks,
        "recipe": _recipe(settings, inputs),
    }


def _champions_base(settings: Settings, inputs: Inputs, out: Output, languages: Sequence[str]) -> dict[str, Any] | None:
    """Returns the `base.json` of a champion's builtin base that fits this run, or None."""
    registry = Registry(out.store)
    for task, version in sorted(inputs.champion.items()):
        base = registry.manifest(task, version).base
        built = open_artifact(out.store, base.uri) if base.id.startswith(BUILTIN) else None
        if built is None:
            continue
        about: dict[str, Any] = built.json("base")
        if about["recipe"] == _recipe(settings, inputs) and _covers(about, settings, languages):
            return about | {"digest": _content(built.files)}
    return None


def _content(files: Mapping[str, Mapping[str, Any]]) -> str:
    """The digest of the base in `model/` among the files of an output."""
    return digest_of_model({name.removeprefix(_MODEL): info["sha256"] for name, info in files.items() if name.startswith(_MODEL)})


def _covers(about: dict[str, Any], settings: Settings, languages: Sequence[str]) -> bool:
    """Tells whether a base knows the tasks and languages of this run, and has the folds that the filter needs."""
    denoise = settings.denoise
    filtered = denoise.enabled and denoise.mode == "out-of-fold"
    folds = not (filtered and about["labels"]) or about["folds"] == denoise.folds
    return folds and set(languages) <= set(about["languages"]) and set(settings.tasks) <= set(about["tasks"])


def _named(settings: Settings, out: Output) -> Report:
    """Writes the `base.json` of a Hugging Face id or folder."""
    base, (folder, digest) = settings.base, _found(settings)
    revision = digest[:_DIGITS] if folder == Path(base.model).expanduser() else base.revision
    about = {
        "id": f"{base.model}@{revision}",
        "model": base.model,
        "revision": revision,
        "digest": digest,
        "address": "",
        "languages": [],
        "tasks": list(settings.tasks),
        "translation": settings.prompt.translation,
        "template": settings.template(),
        "folds": 0,
    }
    out.json("base", about)
    log.info("%s", about["id"])
    return Report(Rows(), {"id": about["id"], "built": False})


def _found(settings: Settings) -> tuple[Path | None, str]:
    """Returns the folder and files' digest of a base that is not built here; (None, "") for a Hugging Face id not on this machine.

    Raises ModelError for a folder without a base model.
    """
    model = Path(settings.base.model).expanduser()
    folder = model if model.is_dir() else folder_of(BaseRef("", settings.base.model, settings.base.revision))
    digest = digest_of_base(folder) if folder else ""
    if folder == model and not digest:
        expected = "a folder with config.json and weights, as save_pretrained writes it"
        raise ModelError("no base model", where=str(folder), expected=expected)
    return folder, digest


def _figures(about: dict[str, Any]) -> dict[str, Any]:
    return {"id": about["id"], "folds": about["folds"], "languages": about["languages"], **about["figures"]}
