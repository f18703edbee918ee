"""The builtin base and the stage that finds or builds it."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest
import torch

from relevance_core import config
from relevance_core.config import BuiltinSettings, Settings
from relevance_core.errors import ModelError
from relevance_core.models import base_ref, lm
from relevance_core.models.tiny import build as tiny
from relevance_core.models.tiny.documents import MATCH, RIGHT, Categories, Items, Query, Row, sampler
from relevance_core.models.tiny.halves import ALONE, Halves, with_another
from relevance_core.models.tiny.pretrain import Reader
from relevance_core.models.tiny.text import Corpus, Respelling, train_tokenizer, words
from relevance_core.pairs import fold_of, query_group, side_of
from relevance_core.prompts import Prompt
from relevance_core.registry import AdapterMeta, Registry
from relevance_core.registry.manifest import BaseInfo, PromptInfo
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.stages import base as base_stage
from relevance_core.store import Store
from tests.support.registry_cases import make_adapter
from tests.support.stage_cases import by_role

PROMPT = Prompt("compact", 1, False, 64)
QUICK = BuiltinSettings(vocabulary=600, hidden=64, contrastive_steps=20, documents=160)
NOUNS = {"dress": "vestido", "boots": "botas", "lamp": "lámpara", "kettle": "tetera", "tent": "carpa", "doll": "muñeca"}
COLOURS = (("rojo", "red"), ("azul", "blue"), ("verde", "green"))
PATHS = {noun: f"shop,{'home' if noun in ('lamp', 'kettle') else 'wear'},{noun}" for noun in NOUNS}


def corpus() -> Corpus:
    """Six nouns in two languages, their categories, and red and blue items of each."""
    rows = []
    for noun, spanish in NOUNS.items():
        for language, word in (("en", noun), ("es", spanish)):
            rows += [("QC", language, word, PATHS[noun])]
            rows += [("QI", language, f"{colour} {word}", f"{colour} {noun}") for colour in ("red", "blue")]
    positives = pl.DataFrame(rows, ["task", "language", "query", "target"], orient="row").with_columns(
        english=pl.lit(None, pl.String)
    )
    catalogue = positives.select("task", "target").unique().sort("task", "target").with_row_index("target_id")
    return Corpus(positives, catalogue)


def test_answers_and_template_are_single_tokens_and_levels_share_tokens_with_queries() -> None:
    """Each answer is one token, and a word is the same token in a query and below a comma of a path."""
    tokenizer = train_tokenizer(corpus(), PROMPT, 600)
    yes, no = base_ref.answer_ids(tokenizer)
    query, path = PROMPT.encode(tokenizer, [("QC", "Kettle", "lamp", None), ("QC", "lamp", "shop,home,kettle", None)])
    kettle = query[2]
    assert yes != no
    assert tokenizer.convert_ids_to_tokens([kettle]) == ["Ġkettle"]
    assert path[-2] == kettle


def test_words_keep_the_possessive() -> None:
    """A possessive s belongs to its word; punctuation does not."""
    assert words("Women's red dress, 20 cm") == ["women's", "red", "dress", "20", "cm"]


def test_no_category_on_a_known_path_is_a_negative() -> None:
    """What is known, above it or below it is never answered no; every level carries whether it is right."""
    catalogue = ["a", "a,b", "a,b,c", "a,b,d", "a,e", "f"]
    draws = Categories([Query("q", None, ("a,b",))], catalogue)
    rows = [row for seed in range(200) for row in draws.document(Random(seed), 1.0)]
    labels = {row.target: row.label for row in rows}
    assert labels == {"a": 1, "a,b": 1, "b": 1, "a,e": 0, "e": 0, "f": 0}
    assert {row.marks for row in rows if row.target == "a,e"} == {((0, RIGHT, 1), (1, RIGHT, 0))}
    assert 0.4 < sum(row.label for row in rows) / len(rows) < 0.7


def test_query_words_state_what_their_clicked_items_have_in_common() -> None:
    """`rojo` states red and `vestido` states dress or dresses; `barato`, clicked for everything, states nothing."""
    nouns = ("dress", "dresses", "boots", "lamp", "tent", "doll", "kite", "chair")
    items = [f"{colour} {noun}" for colour in ("red", "blue", "green", "black") for noun in nouns]
    queries = [Query(f"vestido {es} {n}", None, (f"{en} dress", f"{en} dresses")) for es, en in COLOURS for n in "abc"]
    queries += [Query(f"bota azul barato {n}", None, ("blue boots",)) for n in "abcdef"]
    queries += [Query(f"barato {n}", None, (item,)) for n, item in enumerate(items)]
    draws = Items(queries, sorted(items))
    assert draws.associates["vestido"] == {"dress", "dresses"}
    assert draws.associates["rojo"] == {"red"}
    assert "barato" not in draws.associates


def test_an_item_that_has_all_that_is_stated_is_no_negative() -> None:
    """An unclicked item is answered no only if it lacks something that the query states."""
    items = [f"{colour} {noun}" for colour in ("red", "blue", "green") for noun in ("dress", "boots", "lamp", "tent")]
    queries = [Query(f"{item} {n}", None, (item,)) for item in items if item != "red dress" for n in range(5)]
    draws = Items([*queries, Query("dress", None, ("blue dress",))], sorted(items))
    rows = [row for seed in range(3000) for row in draws.document(Random(seed), 1.0) if row.query == "dress"]
    assert rows
    assert all(("dress" in row.target) == bool(row.label) for row in rows)
    whole = next(row for row in rows if row.target == "blue dress")
    assert whole.marks == ((0, MATCH, 1), (0, RIGHT, 1))


def test_a_task_without_positives_has_no_documents() -> None:
    """A corpus of one task draws documents of that task only."""
    only = Corpus(corpus().positives.filter(pl.col("task") == "QC"), corpus().catalogue)
    assert sampler("QI", only) is None
    assert sampler("QC", only) is not None


def test_a_batch_puts_the_answer_after_the_prompt_and_the_probe_at_the_ends_of_the_levels() -> None:
    """The answer token follows the last prompt token; the probe looks at the path's commas, not the query's, and at its end."""
    tokenizer = train_tokenizer(corpus(), PROMPT, 600)
    reader = Reader(tokenizer, Respelling(tokenizer, 0.1, PROMPT, 1), PROMPT, [], seed=1)
    row = Row("QC", "lamp, kettle", "shop,home,lamp", None, 0, ((0, RIGHT, 1), (1, RIGHT, 0), (2, RIGHT, 0)))
    batch = reader._batches([row], tokenizer)[0]
    text = tokenizer.convert_ids_to_tokens(batch.ids[0].tolist())
    assert text[int(batch.last[0]) :] == ["Ġ?", "Ġno"]
    assert [text[position] for position in batch.marks[1].tolist()] == ["Ġshop", "Ġhome", "Ġlamp"]
    assert batch.marks[3].tolist() == [1, 0, 0]


def test_respelling_follows_its_seed_and_spares_the_template() -> None:
    """The same calls give the same ids, some words in other pieces of the same text, the template's words always whole."""
    tokenizer = train_tokenizer(corpus(), PROMPT, 600)
    row = ("QC", "kettle", "shop,home,kettle", None)
    spellers = [Respelling(tokenizer, 0.1, PROMPT, 3) for _ in range(2)]
    once, again = ([PROMPT.encode(speller, [row])[0] for _ in range(200)] for speller in spellers)
    usual = PROMPT.encode(tokenizer, [row])[0]
    assert once == again
    assert usual in once
    assert len({tuple(ids) for ids in once}) > 1
    assert {tokenizer.decode(ids) for ids in once} == {"query: kettle category: shop, home, kettle ?"}
    assert all(ids[:2] == usual[:2] and ids[-1] == usual[-1] for ids in once)


def test_the_same_corpus_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    """Two builds differ in no file; another seed gives another model."""
    lm.prepare(config.EngineSettings(), 1)
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        tiny.build(corpus(), QUICK, PROMPT, seed, tmp_path / name)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert digests(tmp_path / "one")["model.safetensors"] != digests(tmp_path / "three")["model.safetensors"]


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A base whose steps are halved between two processes has the very files of one that was built by a single process.

    The second process leaves nothing behind and complains of nothing.
    """
    quick = QUICK.model_copy(update={"documents": 320})
    one = base_stage.Build("model", corpus(), quick, PROMPT, config.EngineSettings(), 1, 1.0, tmp_path / "one")
    two = replace(one, folder=tmp_path / "two")
    assert base_stage._make(one, ALONE) == base_stage.make_on_two(two)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_second_process_that_ends_is_told() -> None:
    """Where the other process breaks off, the training says so and what to do, and does not wait for it for ever."""
    with with_another(functools.partial(steps, 1)) as halves, pytest.raises(ModelError, match="on two ended"):
        steps(1000, halves)


def steps(count: int, halves: Halves) -> None:
    """So many steps of a training without parameters."""
    for _ in range(count):
        halves.add_up([], torch.zeros(1))


@pytest.mark.parametrize(("cores", "documents", "two"), [(2, 8000, True), (1, 8000, False), (2, 7999, False)])
def test_a_second_process_is_for_long_builds_on_idle_cores(tmp_path: Path, cores: int, documents: int, two: bool) -> None:
    """One base of 8,000 documents or more and a core to spare: then a second process is worth its start."""
    settings = QUICK.model_copy(update={"documents": documents})
    engine = config.EngineSettings()
    assert base_stage.worth_two(base_stage.Build("model", corpus(), settings, PROMPT, engine, 1, 1.0, tmp_path, cores)) == two


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.slow
def test_a_small_base_learns_its_corpus(tmp_path: Path) -> None:
    """After a minute's worth of documents nearly all held-out ones are answered right, and the two answers hold the probability."""
    lm.prepare(config.EngineSettings(), 1)
    settings = QUICK.model_copy(update={"documents": 3000, "contrastive_steps": 150})
    figures = tiny.build(corpus(), settings, PROMPT, 1, tmp_path / "base")
    model, tokenizer = lm.load_base(tmp_path / "base")
    ids, lengths = lm.pad(
        PROMPT.encode(tokenizer, [("QC", "tetera", PATHS["kettle"], None), ("QC", "tetera", PATHS["tent"], None)])
    )
    with torch.inference_mode():
        p = torch.softmax(model(input_ids=ids).logits[torch.arange(2), lengths - 1], -1)
    yes, no = base_ref.answer_ids(tokenizer)
    assert min(figures["accuracy"].values()) > 0.9
    assert (p[:, yes] + p[:, no]).min() > 0.9
    assert p[0, yes] > p[0, no]
    assert p[1, yes] < p[1, no]


def test_a_corpus_without_positives_is_refused(tmp_path: Path) -> None:
    """There is nothing to learn from a catalogue alone."""
    empty = Corpus(corpus().positives.clear(), corpus().catalogue)
    with pytest.raises(ModelError, match="no text to learn from"):
        tiny.build(empty, QUICK, PROMPT, 1, tmp_path)


# The stage


SETTINGS = Settings(base=config.BaseSettings(builtin=QUICK), engine=config.EngineSettings(workers=1))


def train_rows() -> pl.DataFrame:
    """The corpus as labelled training rows of queries on the train side, and a negative of each."""
    rows = corpus().positives.with_columns(label=pl.lit(1, pl.Int8), origin=pl.lit("log"))
    no = rows.with_columns(pl.lit("shop").alias("target"), label=pl.lit(0, pl.Int8))
    both = pl.concat([rows, no])
    return both.with_columns(group=pl.Series([query_group(q) for q in both["query"]]))


def inputs_of(store: Store, clicks: pl.DataFrame, train: pl.DataFrame, **pinned: Any) -> Inputs:
    """Finished outputs of *ingest* and *translate* with these tables."""

    @stage("ingest", uses=(), fingerprint=lambda _: content(clicks))
    def ingest(settings: Settings, inputs: Inputs, out: Output) -> Report:
        out.table("clicks", clicks)
        out.table("catalogue", corpus().catalogue.with_columns(pl.col("target_id").cast(pl.String)))
        return Report(Rows())

    @stage("translate", uses=(), fingerprint=lambda _: content(train))
    def translate(settings: Settings, inputs: Inputs, out: Output) -> Report:
        out.table("train", train)
        return Report(Rows(), {"translator": None})

    found = {}
    for function in (ingest, translate):
        report = function(SETTINGS, Inputs(), store)
        artifact = open_artifact(store, report.address)
        assert artifact is not None
        found[report.stage] = artifact
    return Inputs(by_role("base", found), **pinned)


def content(frame: pl.DataFrame) -> str:
    return hashlib.sha256(frame.write_csv().encode()).hexdigest()


def clicks_of(rows: list[tuple[str, str, str]], times: int = 1) -> pl.DataFrame:
    """(query, target, language) clicked so many times."""
    frame = pl.DataFrame(rows * times, ["query", "target", "language"], orient="row")
    return frame.with_columns(task=pl.lit("QC"), target_id=pl.lit("1")).select("task", "language", "query", "target", "target_id")


NO_CLICKS = clicks_of([("q", "t", "en")]).clear()


def built(store: Store, settings: Settings, inputs: Inputs) -> tuple[Report, Artifact]:
    report = base_stage.run(settings, inputs, store)
    artifact = open_artifact(store, report.address)
    assert artifact is not None
    return report, artifact


def test_clicks_of_dev_queries_and_unknown_languages_and_lonely_clicks_stay_out() -> None:
    """No dev query and no language before its time is read; a target clicked once beside one clicked ten times is an accident."""
    queries = [f"query {n}" for n in range(40)]
    clicks = pl.concat([clicks_of([(q, "shop", "en") for q in queries], 10), clicks_of([(q, "wear", "en") for q in queries])])
    abroad = clicks_of([(q, "shop", "de") for q in queries])
    kept, reasons = base_stage._without(pl.concat([clicks, abroad]), ["en"], SETTINGS)
    train = {q for q in queries if side_of(query_group(q), 0.2) == "train"}
    assert set(kept["query"]) == train
    assert set(kept["target"]) == {"shop"}
    assert 0 < len(train) < 40
    assert reasons == {
        "dropped: click in a language without training rows": 40,
        "dropped: click of a dev query": 11 * (40 - len(train)),
        "dropped: click that stands alone": len(train),
        "dropped: repeat of a click": 9 * len(train),
    }


def test_a_base_of_clicks_has_no_folds_and_reads_translations(store: Store) -> None:
    """With click logs the labels stay unseen, so no fold needs a base of its own; translated positives are read too."""
    translated = train_rows().filter(pl.col("language") == "es").with_columns(origin=pl.lit("translation"), language=pl.lit("it"))
    clicks = clicks_of([(f"{noun} {n}", PATHS[noun], "it") for noun in NOUNS for n in range(3)])
    report, artifact = built(store, SETTINGS, inputs_of(store, clicks, translated))
    about = artifact.json("base")
    assert about["folds"] == 0
    assert about["address"] == report.address
    assert about["languages"] == ["it"]
    assert report.figures["text"]["source"] == "clicks"
    assert artifact.folder("model").joinpath("model.safetensors").exists()


def test_without_clicks_each_fold_gets_a_base_without_its_queries(store: Store) -> None:
    """Out-of-fold means that the base too has not seen the held-out labels; negatives are never read."""
    filtering = config.build(config.merge(SETTINGS.model_dump(), {"denoise": {"enabled": True}}))
    report, artifact = built(store, filtering, inputs_of(store, NO_CLICKS, train_rows()))
    assert artifact.json("base")["folds"] == 2
    assert {name.split("/")[0] for name in artifact.files} == {"base.json", "model", "fold-0", "fold-1"}
    text = base_stage._text(SETTINGS, inputs_of(store, NO_CLICKS, train_rows()), ["en", "es"])
    for fold in (0, 1):
        queries = text.corpus(fold, 2).positives["query"]
        assert len(queries)
        assert all(fold_of(query_group(query), 2) != fold for query in queries)
    assert report.rows.kept == corpus().positives.height


def publish(store: Store, folder: Path, about: dict[str, Any]) -> str:
    """A version whose base is the one that `about` describes."""
    base = BaseInfo(id=about["id"], revision=about["revision"], uri=about["address"])
    meta = AdapterMeta(
        base=base, prompt=PromptInfo(name="compact", version="1"), threshold=0.5, languages=("en", "es"), created="2026-10-08"
    )
    config_file = make_adapter(folder) / "adapter_config.json"
    config_file.write_text(json.dumps(json.loads(config_file.read_text()) | {"base_model_name_or_path": base.id}))
    return Registry(store).publish("QC", folder, meta).version


def test_the_champions_base_is_taken_again_until_a_language_is_new(store: Store, tmp_path: Path) -> None:
    """A night with the same languages points to the champion's base; a new language builds another one."""
    settings = config.build({"base": {"builtin": QUICK.model_dump()}, "engine": {"workers": 1}, "denoise": {"enabled": False}})
    report, artifact = built(store, settings, inputs_of(store, NO_CLICKS, train_rows()))
    champion = {"QC": publish(store, tmp_path / "adapter", artifact.json("base"))}
    more = pl.concat([train_rows(), train_rows().with_columns(query=pl.lit("lamp new"))])
    again, pointer = built(store, settings, inputs_of(store, NO_CLICKS, more, champion=champion))
    assert again.figures["built"] is False
    assert pointer.json("base")["address"] == report.address
    german = pl.concat([train_rows(), train_rows().with_columns(language=pl.lit("de"))])
    new, other = built(store, settings, inputs_of(store, NO_CLICKS, german, champion=champion))
    assert new.figures["built"] is True
    assert other.json("base")["languages"] == ["de", "en", "es"]


def test_a_folder_is_named_by_the_digest_of_its_files(store: Store, tmp_path: Path) -> None:
    """A base that is there is not built: base.json names it by its files' digest. A changed file gives it another name, a README
    and a hidden file do not; a folder without weights is no base.
    """
    folder = tmp_path / "qwen"
    folder.mkdir()
    settings = config.build({"base": {"model": str(folder)}})
    abouts = []
    for name in ("config.json", "model.safetensors", "README.md", ".note", "tokenizer.json"):
        folder.joinpath(name).write_text("{}")
        if name == "config.json":
            with pytest.raises(ModelError, match=r"no base model; .*config\.json and weights"):
                built(store, settings, inputs_of(store, NO_CLICKS, train_rows()))
            continue
        abouts.append(built(store, settings, inputs_of(store, NO_CLICKS, train_rows()))[1].json("base"))
    first, *same, last = [about["digest"] for about in abouts]
    assert same == [first, first]
    assert last != first
    assert [about["id"] for about in abouts] == [f"{folder}@{about['digest'][:16]}" for about in abouts]


def test_a_hugging_face_id_is_named_with_its_revision(store: Store) -> None:
    """The production base is only named; nothing is fetched."""
    settings = config.build({"base": {"model": "Qwen/Qwen3-14B-Base", "revision": "abc"}})
    about = built(store, settings, inputs_of(store, NO_CLICKS, train_rows()))[1].json("base")
    assert (about["id"], about["address"], about["folds"]) == ("Qwen/Qwen3-14B-Base@abc", "", 0)
