"""*evaluate*: measures an adapter on rows that it has never seen, and any version on any labelled file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from relevance_core.config import Settings
from relevance_core.config.data import SourceSettings
from relevance_core.errors import DataError, NotFound, SettingsError
from relevance_core.metrics import best_threshold, f1_interval, measure, pr_curve, threshold_curve
from relevance_core.pairs import Task, map_distinct, query_group
from relevance_core.processes import PartLogger
from relevance_core.registry import Manifest, Registry
from relevance_core.runs.artifacts import Output, Report, Rows, folder_of, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.scoring.opened import TEXT, machine_of, open_candidate, open_version
from relevance_core.sources import Meaning, Options, read_labelled
from relevance_core.store import Store
from relevance_core.store.disk import writing

if TYPE_CHECKING:
    from relevance_core.metrics import Labels, Scores

log = PartLogger(logging.getLogger(__name__))
ScoreRows = Callable[[Manifest, pl.DataFrame], pl.Series]

_RESAMPLES: Final = 500
_WRITERS: Final[Mapping[str, Callable[[pl.DataFrame, Path], None]]] = {
    ".parquet": lambda frame, path: frame.write_parquet(path),
    ".jsonl": lambda frame, path: frame.write_ndjson(path),
    ".csv": lambda frame, path: frame.write_csv(path),
}


_USES: Final = ("prompt", "base.model", "engine.scorer", "seed")


@stage("evaluate", uses=_USES, machine=("engine", "serving"), version=2, pinned=("champion",))
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Scores the task's dev rows with the new adapter and with the champion: `scores` and `metrics.json`.

    How: the threshold is swept on the calibration rows and every figure comes from the judgement rows, overall and by language,
    with bootstrap intervals over queries. The adapter answers in the dtype that it was trained in; the champion that was pinned
    when the run began answers the same rows with its own base, dtype, prompt, translator and threshold. `metrics.json` also holds
    the curves that the report draws.
    What it does not do: decide anything, choose a threshold for each language, correct the labels of dev.
    Known limits: dev labels come from the logs and carry the logs' label noise.
    """
    task, champion = inputs.task, None
    dev = inputs["dev"].table("dev").filter(task=task).sort("pair_id")
    log.info("%d dev rows", len(dev))
    scorer = open_candidate(settings, inputs["base"], inputs["adapter"]).scorer
    p = scorer.score(dev.select(TEXT).iter_rows())
    scores = dev.select("pair_id", "group", "query", "target", "language", "part", "label").with_columns(
        p=pl.Series(p, dtype=pl.Float64), champion_p=pl.lit(None, pl.Float64)
    )
    if task is not None and task in inputs.champion:
        champion = Registry(out.store).manifest(task, inputs.champion[task])
        log.info("champion %s on the same rows", champion.version)
        scores = scores.with_columns(champion_p=score_with(out.store, champion, dev, settings))
    metrics = judge(scores, champion, settings.seed)
    out.table("scores", scores)
    out.json("metrics", metrics)
    return Report(Rows(len(dev), kept=len(dev)), {name: value for name, value in metrics.items() if name != "curves"})


def judge(scores: pl.DataFrame, champion: Manifest | None, seed: int) -> dict[str, Any]:
    """Measures scored dev rows at the threshold that the calibration rows give.

    Args:
        scores: `part`, `label`, `language`, `group`, `p`, and `champion_p` where there is a champion.
        champion: the version behind `champion_p`, or None.
        seed: of the bootstrap.

    Returns:
        The figures of `metrics.measure` with the interval f1_low to f1_high of each F1; under "champion" the champion's (None
        without one), and under "curves" those that the report draws.

    Raises:
        DataError: a part of dev has no rows.
    """
    calibration, judgement = (scores.filter(part=part) for part in ("calibration", "judgement"))
    threshold = best_threshold(*_arrays(calibration, "p"))
    p, labels = _arrays(judgement, "p")
    metrics = _measured(judgement, "p", threshold, seed) | {"champion": None}
    curves = {
        "calibration": threshold_curve(*_arrays(calibration, "p")),
        "judgement": threshold_curve(p, labels),
        "precision_recall": pr_curve(p, labels),
        "champion_precision_recall": None,
    }
    if champion is not None:
        served = {"version": champion.version, "languages": list(champion.languages), "base": champion.base.id}
        metrics["champion"] = _measured(judgement, "champion_p", champion.threshold, seed) | served
        curves["champion_precision_recall"] = pr_curve(*_arrays(judgement, "champion_p"))
    return metrics | {"curves": curves}


def _measured(judgement: pl.DataFrame, column: str, threshold: float, seed: int) -> dict[str, Any]:
    """Measures one scorer's column with `measure`, and adds the interval of each F1."""
    figures = measure(*_arrays(judgement, column), judgement["language"].to_list(), threshold)
    figures |= _interval(judgement, column, threshold, seed)
    for language, of_language in figures["per_language"].items():
        of_language |= _interval(judgement.filter(language=language), column, threshold, seed)
    return figures


def _interval(rows: pl.DataFrame, column: str, threshold: float, seed: int) -> dict[str, float]:
    p, labels = _arrays(rows, column)
    low, high = f1_interval(labels, p >= threshold, rows["group"].to_list(), _RESAMPLES, seed)
    return {"f1_low": low, "f1_high": high}


def _arrays(rows: pl.DataFrame, column: str) -> tuple[Scores, Labels]:
    return rows[column].to_numpy(), rows["label"].to_numpy() == 1


def score_with(store: Store, version: Manifest, rows: pl.DataFrame, settings: Settings) -> pl.Series:
    """Scores rows (`task`, `language`, `query`, `target`) with a published version: its base, prompt and translator.

    settings: only those of the machine are read. Returns p(yes) of each row. Raises the errors of `open_version`.
    """
    return open_version(store, version, machine_of(settings)).score(rows)


def evaluate_file(store: Store, task: Task, data: str, version: str | None, settings: Settings) -> dict[str, Any]:
    """Measures a version on the task's rows of any labelled file, at the version's own threshold (`relevance evaluate`).

    Args:
        store: holds the registry.
        task: QC or QI.
        data: the labelled file.
        version: an id or its beginning; None for the champion or, where nothing serves yet, for the newest version, whose `role`
            is then "candidate".
        settings: those of the machine, and `source`, by which the file is read.

    Returns:
        The figures of `metrics.measure`, with `task`, `version` and `role`. `unseen` holds the same figures for the rows whose
        query is not among the version's training rows (a file may hold queries that it was trained on, translated ones too); it
        is None when the training rows are no longer in the store.

    Raises:
        NotFound: there is no such version.
        DataError: the file can't be read or holds no row of the task.
    """
    manifest, role = choose(store, task, version)
    rows = _rows_of(data, task, settings.source)
    rows = rows.with_columns(p=score_with(store, manifest, rows, settings))
    trained = _training_queries(store, manifest)
    unseen = None if trained is None else rows.filter(~_groups(rows["query"]).is_in(trained.implode()))
    if unseen is not None and unseen.height < rows.height:
        log.info(
            "%s of %s rows have a query that the version was trained on; see `unseen`", rows.height - unseen.height, rows.height
        )
    figures = {"task": task, "version": manifest.version, "role": role} | _at_threshold(rows, manifest)
    return figures | {"unseen": _at_threshold(unseen, manifest) if unseen is not None and unseen.height else None}


def _at_threshold(rows: pl.DataFrame, manifest: Manifest) -> dict[str, Any]:
    return measure(rows["p"].to_numpy(), rows["label"].to_numpy() == 1, rows["language"].to_list(), manifest.threshold)


def _training_queries(store: Store, manifest: Manifest) -> pl.Series | None:
    """Returns the groups of the queries, whatever text rule made them, that a version was trained on; None when they are gone."""
    for entry in store.list(folder_of("denoise", manifest.task)):
        found = open_artifact(store, entry.key.removesuffix("/manifest.json")) if entry.key.endswith("/manifest.json") else None
        if found is not None and found.files["train.parquet"]["sha256"] == manifest.data.get("train"):
            return _groups(found.table("train", ["query"])["query"]).unique()
    return None


def _groups(queries: pl.Series) -> pl.Series:
    return map_distinct(queries, query_group, "group")


def score_file(
    store: Store,
    task: Task,
    data: str,
    output: str,
    version: str | None,
    score: ScoreRows,
    source: SourceSettings | None = None,
) -> dict[str, Any]:
    """Scores the task's rows of a file, labelled or not, and writes texts, `id`, `p_yes`, `decision` and `version`.

    Args:
        store: holds the registry.
        task: QC or QI.
        data: the file to score; `id` is its own or, without one, the row's number.
        output: a .parquet, .jsonl or .csv file to write.
        version: as in `evaluate_file`.
        score: returns p(yes) of each row under a version: `score_with` on this machine, `serving.bulk.score_rows` on servers.
        source: settings by which the file is read; default: those of `source`.

    Returns:
        The version and its threshold, and the numbers of rows and of relevant rows (`decision` 1, from the threshold on).

    Raises:
        SettingsError: the output has another suffix.
        NotFound: there is no such version.
        DataError: the file can't be read or holds no row of the task.
    """
    path = Path(output)
    if path.suffix not in _WRITERS:
        raise SettingsError(f"the output {output!r} has no known form", where="--output", expected=", ".join(_WRITERS))
    manifest, role = choose(store, task, version)
    rows = _rows_of(data, task, source or SourceSettings(), labels=False)
    scored = rows.select(
        id="source_id",
        task="task",
        language="language",
        query="query_original",
        target="target_original",
        p_yes=score(manifest, rows),
    ).with_columns(decision=(pl.col("p_yes") >= manifest.threshold).cast(pl.Int8), version=pl.lit(manifest.version))
    with writing(path):
        _WRITERS[path.suffix](scored, path)
    decided = int(scored["decision"].sum())
    log.info("%d pairs scored by %s (%s), %s of them relevant: %s", len(scored), manifest.name, role, decided, output)
    result = {"task": task, "version": manifest.version, "role": role, "threshold": manifest.threshold}
    return result | {"rows": len(scored), "relevant": decided, "output": output}


def choose(store: Store, task: Task, version: str | None) -> tuple[Manifest, str]:
    """Finds the requested version and its role: champion, candidate (the newest, where nothing serves) or version.

    Raises NotFound where the task has no version, or none of that id.
    """
    registry = Registry(store)
    current = registry.current()
    serving = current.versions.get(task) if current else None
    if version is not None:
        manifest = registry.resolve(task, version)
        return manifest, "champion" if manifest.version == serving else "version"
    if serving is not None:
        return registry.manifest(task, serving), "champion"
    published = registry.versions(task)
    if not published:
        raise NotFound(f"there is no version of {task} yet", where=store.uri, do="run `relevance retrain` first")
    log.info("no version of %s serves yet: taking the newest one, %s, which nobody has promoted", task, published[-1].version)
    return published[-1], "candidate"


def _rows_of(data: str, task: Task, source: SourceSettings, *, labels: bool = True) -> pl.DataFrame:
    reading, meaning = Options.of(source), Meaning.of(source)
    found = read_labelled(data, task=task, labels=labels, reading=reading, meaning=meaning).filter(task=task)
    if found.is_empty():
        raise DataError(f"the file has no row of the task {task}", where=data, expected="rows whose task is " + task)
    return found
