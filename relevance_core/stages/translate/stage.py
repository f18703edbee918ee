"""The *translate* stage: training rows for languages that have none, and the query's English translation for the prompt."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, cast

import polars as pl

from relevance_core import pairs
from relevance_core.config import Settings
from relevance_core.errors import SettingsError
from relevance_core.pairs import Task
from relevance_core.processes import PartLogger
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage
from relevance_core.sources import Source
from relevance_core.stages.translate import quality
from relevance_core.translators import (
    UNSPACED,
    GlossaryTranslator,
    Keepsakes,
    Machine,
    Translator,
    add_english,
    read_brands,
    read_terms,
    save,
    translate_and_remember,
    translator_from,
)

log = PartLogger(logging.getLogger(__name__))

_GLOSSARY, _BRANDS = "terms.tsv.gz", "brands.txt"
ONBOARDED: Final = "onboarded"
_SAMPLES: Final = 12
_LETTERS_OF_A_CHARACTER: Final = 3
_LEDGER: Final = ("origin_id", "task", "language", "source_language", "source_query", "translation", "target", "label", "reason")


class Want(NamedTuple):
    """A number of rows wanted in a language for a task, with the reason."""

    language: str
    task: Task
    rows: int
    why: str


@stage(
    "translate",
    uses=("translate", "split.dev_share", "split.qc_group", "prompt.translation"),
    machine=("engine", "serving"),
    pinned=("onboarded",),
)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Translation augmentation (arXiv 2510.21671, strategy 1) and the English column (arXiv 2510.25428).

    How it works. For every onboarded language, and for every trained one with fewer rows than the quota, labelled pairs of the
    source languages are sampled: as many of each label as there are, a row of every query before a second one, in the order of a
    hash of the pair and the language, so that tonight's sample is mostly last night's and the translation memory knows it. The
    query is translated and the label, target, group, event time and weight are kept. A translation is dropped if nothing or too
    little of it was translated, if it lost a number, unit or brand, if it is far longer or shorter than its source, if one of
    `translate.guards` rejects it, if its own text belongs to the dev side, or if the pair exists (of two that contradict each other
    the positive stays); the ledger names each.
    With `prompt.translation`, `english` holds the English translation of every query in another language, made from that query's
    own text: never the source that a translated row came from.

    What it does not do. Targets stay in English. A translation is judged by its form: nobody reads it.

    Known limits. The translator chooses the meaning of an ambiguous word without looking at the target. A model's copy of the query
    counts as not translated, also where both languages have the same word.
    """
    train, dev = inputs["rows"].table("train"), inputs["rows"].table("dev")
    translator = translator_of(settings, inputs["source"])
    wanted = wants(settings, train, inputs.onboarded)
    require_translations(settings, translator, set(train["language"].unique()), inputs.onboarded)
    tried = _translate_all(settings, wanted, train, translator, out)
    judged = _as_pairs(_judge(settings, tried, dev, _brands(inputs["source"]), translator), train, dev)
    made = judged.filter(pl.col("reason").is_null())
    for name, frame in (("train", pl.concat([train, made.select(train.columns)])), ("dev", dev)):
        with_english = add_english(frame, translator if settings.prompt.translation else None, out.store)
        out.table(name, with_english.sort("pair_id"))
    rejected = judged.filter(pl.col("reason").is_not_null())
    out.table(
        "ledger",
        rejected.select(*_LEDGER, *(["detail"] if settings.translate.guards else [])).sort("language", "task", "origin_id"),
    )
    out.table("samples", _samples(judged))
    languages = _by_language(wanted, judged)
    warnings = quality.warnings(languages)
    for warning in warnings:
        log.warning("%s", warning)
    if settings.translate.guards:
        out.json("quality", {"languages": languages, "by_source": quality.by_source(judged), "warnings": warnings})
    kept, dropped = len(train) + len(made) + len(dev), len(rejected)
    reasons = {f"dropped: {reason}": count for reason, count in rejected.group_by("reason").len().sort("reason").iter_rows()}
    figures = {
        "translator": save(translator, out.store) if translator else None,
        "languages": languages,
        "warnings": warnings,
        "english": _english_figures(settings, translator, train, dev),
    }
    return Report(Rows(len(train) + len(dev), len(judged), kept, 0, dropped, reasons), figures)


def translator_of(settings: Settings, ingest: Artifact) -> Translator | None:
    """Builds the translator of a run, with the glossary that *ingest* found beside the logs.

    Returns None where the settings ask for the glossary alone and there is none.
    """
    glossary, brands = None, _brands(ingest)
    if _GLOSSARY in ingest.files:
        terms = read_terms(ingest.store.read(ingest.key(_GLOSSARY)), ingest.store.uri_of(ingest.key(_GLOSSARY)))
        glossary = GlossaryTranslator(terms, brands)
    return translator_from(settings.translate, glossary, brands, Machine(settings.serving, settings.engine))


def translator_beside(settings: Settings, source: Source) -> Translator | None:
    """Builds the translator that a run on this source will have. Raises DataError for a glossary that can't be read."""
    brands = read_brands(source.brands.read(), source.brands.address) if source.brands else ()
    terms = read_terms(source.terms.read(), source.terms.address) if source.terms else None
    glossary = None if terms is None else GlossaryTranslator(terms, brands)
    return translator_from(settings.translate, glossary, brands, Machine(settings.serving, settings.engine))


def _brands(ingest: Artifact) -> tuple[str, ...]:
    if _BRANDS not in ingest.files:
        return ()
    return read_brands(ingest.store.read(ingest.key(_BRANDS)), ingest.store.uri_of(ingest.key(_BRANDS)))


def require_translations(settings: Settings, translator: Translator | None, trained: set[str], onboarded: tuple[str, ...]) -> None:
    """Refuses an onboarded language, or the prompt's translation, that can't be translated.

    Args:
        settings: of the run.
        translator: of the run; None without a glossary.
        trained: the languages to translate from.
        onboarded: the languages to translate into.

    Raises:
        SettingsError: there is no translator, or it lacks a language.
    """
    asked = list(onboarded) if settings.translate.enabled else []
    if translator is None and (asked or settings.prompt.translation):
        raise SettingsError(
            "there is no glossary to translate with",
            where="translate.glossary",
            expected="a terms.tsv or terms.tsv.gz of term_id, language, name",
            do=f"give one, or do without {'onboarding ' + ', '.join(asked) if asked else 'prompt.translation'}",
        )
    for target in sorted(asked):
        if translator is not None:
            _check_pairs(settings, translator, trained, target)


def _check_pairs(settings: Settings, translator: Translator, trained: set[str], target: str) -> None:
    """Refuses an onboarded language that can't be translated into.

    Raises SettingsError unless the translator can translate into it from every source that the settings name or, where they name
    none, from at least one of the trained languages.
    """
    named, others = set(settings.translate.sources) - {target}, trained - {target}
    impossible = {source for source in named or others if not translator.can(source, target)}
    if impossible and (named or impossible == others):
        raise SettingsError(
            f"{translator.name} can't translate into {target} from {', '.join(sorted(impossible))}",
            where="onboard, translate.sources, translate.translator",
            expected=f"pairs of {', '.join(sorted(translator.languages))}",
            do="add the language's rows to the glossary or a translator that knows it (docs/languages.md), or leave it out",
        )


def wants(settings: Settings, train: pl.DataFrame, onboarded: tuple[str, ...]) -> list[Want]:
    """Lists the rows to make: for an onboarded language as many as the largest trained language has, for a small one the shortfall.

    Args:
        settings: the quotas; the list is empty where `translate.enabled` is off.
        train: the training rows of *split*.
        onboarded: the onboarded languages.
    """
    found: list[Want] = []
    for task in sorted(train["task"].unique()) if settings.translate.enabled else ():
        rows = dict(train.filter(task=task).group_by("language").len().iter_rows())
        most = min(settings.translate.rows.get(cast(Task, task), 0), round(settings.translate.of_largest * max(rows.values())))
        for language in sorted({*onboarded, *rows}):
            lacking = settings.translate.min_rows - rows.get(language, 0)
            if language in onboarded:
                found.append(Want(language, cast(Task, task), most, ONBOARDED))
            elif lacking > 0:
                found.append(Want(language, cast(Task, task), lacking, "below the row quota"))
    return found


def samples(
    settings: Settings, wanted: list[Want], train: pl.DataFrame, translator: Translator | None
) -> Iterator[tuple[Want, pl.DataFrame | None]]:
    """Yields each want with the pairs to translate for it; None where nothing can be translated into the language.

    Args:
        settings: the source languages.
        wanted: the rows to make.
        train: the training rows of *split*.
        translator: None where there is none.
    """
    for want in wanted:
        known = _possible(train, translator, want.language)
        sources = set(settings.translate.sources)
        yield want, sample_pairs(train, want.language, want.task, want.rows, sources, known) if known else None


def _possible(train: pl.DataFrame, translator: Translator | None, target: str) -> frozenset[str]:
    """Returns the trained languages that can be translated into the target."""
    return frozenset(source for source in train["language"].unique() if translator and translator.can(source, target))


def _translate_all(
    settings: Settings,
    wanted: list[Want],
    train: pl.DataFrame,
    translator: Translator | None,
    out: Output,
) -> pl.DataFrame:
    """Samples and translates: the columns of `train`, and `source_language`, `translation`, `untranslated`, `words`, `place`.

    `place` is the position in the sample; `language` is the target's.
    """
    empty = train.clear().with_columns(
        pl.lit(None, pl.String).alias("source_language"),
        pl.lit(None, pl.String).alias("translation"),
        pl.lit(None, pl.Int32).alias("untranslated"),
        pl.lit(None, pl.Int32).alias("words"),
        pl.lit(None, pl.Int64).alias("place"),
    )
    pieces = [empty]
    for want, sample in samples(settings, wanted, train, translator):
        if translator is None or sample is None:
            log.info("nothing made for %s %s: nothing can be translated into it", want.language, want.task)
            continue
        held = 0
        for source in sample["language"].unique().sort():
            pairs_of = sample.filter(language=source)
            known, hits = translate_and_remember(translator, out.store, pairs_of["query"], source, want.language)
            held += hits
            renamed = pairs_of.rename({"language": "source_language"}).with_columns(language=pl.lit(want.language))
            joined = renamed.join(known, left_on="query", right_on="text", how="left", maintain_order="left")
            pieces.append(joined.select(empty.columns))
        log.info("%s %s: %d pairs, %s texts from the translation memory", want.language, want.task, len(sample), held)
    return pl.concat(pieces)


def sample_pairs(
    train: pl.DataFrame, language: str, task: Task, rows: int, sources: set[str], known: frozenset[str]
) -> pl.DataFrame:
    """Samples the pairs of a task to translate into `language`, with `place`, their position.

    Half of them are positive as far as both labels have enough rows; within a label every query's first row comes before any
    query's second, in the order of a hash of pair and language.

    Args:
        train: the training rows.
        language: the target language.
        task: QC or QI.
        rows: at most so many pairs.
        sources: languages to sample from; empty for every other one of `known`.
        known: languages that can be translated into `language`.
    """
    taken = pl.col("language").is_in(sorted(sources or known)) & pl.col("language").is_in(sorted(known))
    pool = train.filter(taken, pl.col("language") != language, task=task)
    pool = pool.with_columns(order=pairs.digests("translate", language, pool["pair_id"])).sort("order")
    pool = pool.with_columns(turn=pl.int_range(pl.len()).over("label", "language", "query")).sort("turn", "order")
    positives, negatives = pool.filter(label=1), pool.filter(label=0)
    half = min(len(positives), max((rows + 1) // 2, rows - len(negatives)))
    sample = pl.concat([positives.head(half), negatives.head(rows - half)])
    return sample.drop("order", "turn").with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64))


def _judge(
    settings: Settings, tried: pl.DataFrame, dev: pl.DataFrame, brands: tuple[str, ...], translator: Translator | None
) -> pl.DataFrame:
    """Adds `reason`, the fault of a translation, null for a usable one, and `detail`, more about it, to `tried`."""
    low, high = settings.translate.length_ratio
    ratio = _length("translation", "language") / _length("query", "source_language")
    untouched = (pl.col("words") > 0) & (pl.col("untranslated") == pl.col("words"))
    looked = tried.with_columns(_lost(tried, Keepsakes(brands)), _on_dev_side(settings, tried, dev))
    return quality.with_doubts(looked, settings.translate, brands, translator).with_columns(
        reason=pl.when(untouched)
        .then(pl.lit("nothing translated"))
        .when(pl.col("untranslated") > settings.translate.max_untranslated * pl.col("words"))
        .then(pl.lit("too much left untranslated"))
        .when("lost")
        .then(pl.lit("number, unit or brand lost"))
        .when((ratio < low) | (ratio > high))
        .then(pl.lit("length ratio"))
        .when(pl.col("doubt").is_not_null())
        .then("doubt")
        .when("dev_side")
        .then(pl.lit("dev side"))
    )


def _as_pairs(judged: pl.DataFrame, train: pl.DataFrame, dev: pl.DataFrame) -> pl.DataFrame:
    """Returns the judged translations as rows of `train` (ids, origin and texts set), with `source_query`.

    A pair that exists already, or that an earlier translation makes, gets the reason "pair exists".
    """
    named = judged.with_columns(
        origin=pl.lit("translation"), origin_id=pl.col("pair_id"), source_query=pl.col("query"), query=pl.col("translation")
    )
    made = pairs.with_ids(named).sort("task", "language", "place", "pair_id")
    existing = pl.concat([train["pair_id"], dev["pair_id"]]).implode()
    usable = pl.col("reason").is_null()
    twice = usable & (usable.cum_sum().over("pair_id") > 1)
    return made.with_columns(
        reason=pl.when(usable & (pl.col("pair_id").is_in(existing) | twice)).then(pl.lit("pair exists")).otherwise("reason")
    )


def _length(text: str, language: str) -> pl.Expr:
    """Returns the length of a text in letters; a character of an unspaced script counts as several."""
    letters = pl.when(pl.col(language).is_in(sorted(UNSPACED))).then(_LETTERS_OF_A_CHARACTER).otherwise(1)
    return pl.col(text).str.len_chars() * letters


def _lost(tried: pl.DataFrame, keepsakes: Keepsakes) -> pl.Series:
    """Tells for each row whether the translation lost a number, unit or brand of its source."""
    columns = tried.select("query", "source_language", "translation", "language")
    lost = [bool(keepsakes.of(query, source) - keepsakes.of(said, target)) for query, source, said, target in columns.iter_rows()]
    return pl.Series("lost", lost, dtype=pl.Boolean)


def _on_dev_side(settings: Settings, tried: pl.DataFrame, dev: pl.DataFrame) -> pl.Series:
    """Tells for each row whether the translation is the text of a dev query, or would be on the dev side if somebody typed it.

    Where the category decides the side of a pair (QC by prefix), a translation is on its source's side: then only the text of a dev
    query is refused.
    """
    groups = pairs.map_distinct(tried["translation"], pairs.query_group, "own")
    present = set(pairs.map_distinct(dev["query"], pairs.query_group, "own"))
    by_query = [task != "QC" or settings.split.qc_group == "query" for task in tried["task"]]
    sides = [
        group in present or (by and pairs.side_of(group, settings.split.dev_share) == "dev")
        for group, by in zip(groups, by_query, strict=True)
    ]
    return pl.Series("dev_side", sides, dtype=pl.Boolean)


def _samples(judged: pl.DataFrame) -> pl.DataFrame:
    """Returns the first translations of each language and task, rejected ones too, for people to read."""
    columns = ("task", "language", "source_language", "source_query", "query", "target", "label", "untranslated", "words", "reason")
    ordered = judged.sort("language", "task", "origin_id")
    return ordered.group_by("language", "task", maintain_order=True).head(_SAMPLES).select(columns)


def _by_language(wanted: list[Want], judged: pl.DataFrame) -> dict[str, Any]:
    """Returns language → rows wanted, sampled, made and rejected, and the figures of their quality."""
    figures: dict[str, Any] = {}
    for language in sorted({want.language for want in wanted}):
        rows = judged.filter(language=language)
        made = rows.filter(pl.col("reason").is_null())
        figures[language] = {
            "why": next(want.why for want in wanted if want.language == language),
            "wanted": sum(want.rows for want in wanted if want.language == language),
            "made_by_task": dict(made.group_by("task").len().sort("task").iter_rows()),
            **quality.figures(rows),
        }
    return figures


def _english_figures(
    settings: Settings, translator: Translator | None, train: pl.DataFrame, dev: pl.DataFrame
) -> dict[str, Any] | None:
    """Returns the languages that can't be translated into English, which the prompt's translation leaves out."""
    if not settings.prompt.translation or translator is None:
        return None
    languages = (set(train["language"]) | set(dev["language"])) - {"en"}
    return {"unknown_languages": sorted(language for language in languages if not translator.can(language, "en"))}
