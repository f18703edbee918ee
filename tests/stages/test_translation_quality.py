"""Guards on a translation's text, and the warning before anything is trained on translations."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from relevance_core.config import TranslateSettings, TranslationGuard
from relevance_core.runs.stage import Inputs
from relevance_core.stages.translate import stage as translate
from relevance_core.stages.translate.quality import figures, warnings
from relevance_core.store import Store
from relevance_core.store.memory import Memory
from relevance_core.translators import (
    REASONS,
    Answer,
    EndpointTranslator,
    GlossaryTranslator,
    Keepsakes,
    Machine,
    Term,
    Translator,
    doubts,
    read_terms,
)
from tests.support.places import REAL_TERMS
from tests.support.stage_cases import log
from tests.support.translate_cases import inputs_of, ran, settings_of

TERMS = REAL_TERMS / "terms.tsv.gz"


def doubted(guard: TranslationGuard, text: str, said: str, source: str = "es", target: str = "de", **more: Any) -> str | None:
    """What the guard says of an answer; None where it passes."""
    brands, translator = more.get("brands", ()), more.get("translator")
    (found,) = doubts([Answer(text, source, said, target)], [guard], brands, translator, 0.8)
    assert found is None or found[0] == REASONS[guard]
    return None if found is None else found[1]


@pytest.mark.parametrize(
    ("text", "said", "lost"),
    [
        ("funda a52", "hülle", "a52"),
        ("funda a52", "hülle a52", None),
        ("funda a52", "hülle a-52", None),
        ("auriculares wh1000xm4", "kopfhörer wh1000", "wh1000xm4"),
        ("funda 52", "hülle", None),
        ("funda roja", "rote hülle", None),
    ],
)
def test_a_model_name_has_to_be_kept(text: str, said: str, lost: str | None) -> None:
    """A word of letters and digits must be there, written together or apart; a number is the affair of the guard before."""
    assert doubted("models", text, said) == lost


@pytest.mark.parametrize("said", ["zapatos de salón", "zapatos de salon.", "salón de zapatos"])
def test_the_words_of_the_source_are_a_copy(said: str) -> None:
    """Also without accents, with punctuation, in another order; one word that is another one makes it none."""
    assert doubted("copy", "zapatos de salón", said) == ""
    assert doubted("copy", "zapatos de salón", said.replace("zapatos", "schuhe")) is None


def test_a_text_without_spaces_is_copied_character_by_character() -> None:
    """Japanese that comes back where German was wanted falls into the same characters."""
    assert doubted("copy", "赤い靴", "赤い靴", "ja") == ""


def test_brands_and_numbers_are_no_copy() -> None:
    """Where nothing but a brand and a size is said, there is nothing to translate."""
    assert doubted("copy", "veltano 500 ml", "veltano 500 ml", brands=["Veltano"]) is None
    assert doubted("copy", "veltano 500 ml", "veltano 500 ml") == ""


def test_the_glossary_knows_what_both_languages_call_the_same() -> None:
    """`pizza margherita` is called that in both languages; a glossary that says otherwise, or knows one word, is no witness."""
    pizza = (Term("1", "es", "pizza"), Term("1", "de", "Pizza"))
    other = (Term("2", "es", "margherita"), Term("2", "de", "Margherita"))
    said = {"text": "pizza margherita", "said": "pizza margherita"}
    assert doubted("copy", **said, translator=GlossaryTranslator(pizza + other)) is None
    assert doubted("copy", **said, translator=GlossaryTranslator(pizza)) == ""
    assert doubted("copy", **said, translator=GlossaryTranslator((*pizza, other[0], Term("2", "de", "Art")))) == ""
    assert doubted("copy", **said, target="it", translator=GlossaryTranslator(pizza + other)) == ""


@pytest.mark.parametrize(
    ("text", "said", "target", "phrase"),
    [
        ("zapatos rojos", "rot rot rot", "de", "rot"),
        ("zapatos rojos", "rote schuhe rote schuhe rote schuhe rote", "de", "rote schuhe"),
        ("zapatos rojos", "rot rot schuhe", "de", None),
        ("toc toc toc", "klopf klopf klopf", "de", None),
        ("zapatos", "schuheeeeee", "de", "e"),
        ("talla xxxxxl", "größe xxxxxl", "de", None),
        ("zapatos", "schuhe 10000000", "de", None),
        ("zapatos rojos", "赤い靴赤い靴赤い靴", "ja", "赤い靴"),
        ("pescado", "さかな", "ja", None),
    ],
)
def test_what_is_said_three_times_on_end_is_a_loop(text: str, said: str, target: str, phrase: str | None) -> None:
    """A phrase three times or letters five times, more than in the source; sizes and digits are none."""
    assert doubted("repetition", text, said, "es", target) == phrase


@pytest.mark.parametrize(
    ("text", "said", "target", "found"),
    [
        ("zapatos rojos de mujer", "women's running shoes with soft soles", "de", "en"),
        ("zapatos rojos de mujer", "rote schuhe für damen", "de", None),
        ("red shoes for women", "zapatos rojos para mujer", "de", None),
        ("zapatos rojos de mujer", "calzado de color carmesí para señora", "de", "es"),
        ("zapatos rojos de mujer", "красные туфли для женщин", "de", "another script"),
        ("zapatos rojos de mujer", "women shoes", "ja", "en"),
        ("zapatos rojos", "红色鞋子", "de", "another script"),
        ("zapatos rojos", "赤い靴", "ja", None),
        ("zapatos de piel", "革靴専門店", "ja", None),
    ],
)
def test_a_text_in_another_language_is_found(text: str, said: str, target: str, found: str | None) -> None:
    """Source and English by their letters, any other script for sure; Chinese characters alone may be Japanese.

    A third language in the target's script is not looked for.
    """
    source = "en" if text.startswith("red") else "es"
    detail = doubted("language", text, said, source, target)
    assert (detail if detail in (None, "another script") else detail.split()[0]) == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zapatos", "shoes"),
        ("nike air force running club", "nike air force running club"),
        ("pantalones veltano outdoor company", "hose veltano outdoor company"),
        ("zapatos 42", "schuh 42"),
    ],
)
def test_what_is_short_or_stands_in_the_source_is_no_evidence(text: str, said: str) -> None:
    """Five letters say nothing; names that the translator took over are not its words, however English they read."""
    assert doubted("language", text, said) is None


def test_a_name_of_the_glossary_is_one_of_the_language() -> None:
    """`sonnencreme` reads like French; it is in doubt until the glossary says that it is German."""
    cream = GlossaryTranslator((Term("1", "fr", "crème solaire"), Term("1", "de", "Sonnencreme")))
    said = {"text": "crème solaire", "said": "sonnencreme", "source": "fr"}
    assert str(doubted("language", **said)).startswith("fr ")
    assert doubted("language", **said, translator=cream) is None


def test_names_in_latin_letters_stand_in_any_script() -> None:
    """The Japanese in it decides, however much longer the names are."""
    assert doubted("language", "fundas", "smartphone accessories ケース", target="ja") is None


def test_the_first_guard_that_objects_is_the_reason() -> None:
    """A lost model name before the repetition, in the guards' own order; a guard that is not asked says nothing."""
    loop = Answer("funda a52", "es", "rot rot rot", "de")
    assert doubts([loop], ["repetition", "models"], (), None, 0.8) == [("model name lost", "a52")]
    assert doubts([loop], ["repetition"], (), None, 0.8) == [("repetition", "rot")]
    assert doubts([loop], [], (), None, 0.8) == [None]


def test_words_that_may_change_are_neither_numbers_units_nor_brands() -> None:
    """The longest brand at each place is taken out, and a unit after a number."""
    keep = Keepsakes(["Red", "Red Shirt"])
    assert keep.others("red shirt 2,5 l camisa l red", "es") == ["camisa", "l"]


@pytest.mark.real_terms
@pytest.mark.skipif(not TERMS.exists(), reason="the multilingual terms do not lie beside the checkout")
def test_right_names_pass_and_english_ones_are_found() -> None:
    """Of the names of categories one in 200 is doubted at most, of English ones given for Italian half are found at least."""
    names: dict[str, dict[str, str]] = {}
    for term in read_terms(TERMS.read_bytes(), str(TERMS)):
        names.setdefault(term.term_id, {}).setdefault(term.language, term.name.lower())
    some = list(names.values())[::8]

    def share(*said: tuple[str, str, str]) -> float:
        """Of the names given in the second language for those of the first, where the third was wanted."""
        answers = [Answer(row[source], source, row[given], target) for source, given, target in said for row in some]
        found = doubts(answers, ["models", "repetition", "language"], (), None, TranslateSettings().language_confidence)
        return sum(doubt is not None for doubt in found) / len(found)

    assert share(("es", "de", "de"), ("es", "it", "it"), ("en", "pt", "pt"), ("de", "ja", "ja")) < 0.005
    assert share(("es", "en", "it")) > 0.5


# --- the stage ---

MODEL = EndpointTranslator("shop/model", "v1", 128, Machine())
VLLM = {"min_rows": 0, "translator": "vllm:shop/model@v1", "sources": "es", "length_ratio": (0.1, 10.0)}
SAID = {
    "zapatos rojos": "rote schuhe",
    "funda a52": "hülle",
    "zapatos de salón": "zapatos de salon",
    "camisa": "hemd hemd hemd",
    "zapatos rojos de mujer": "women's running shoes with soft soles",
}


def know(store: Store, translator: Translator, said: dict[str, str], source: str, target: str) -> None:
    """Puts answers into the translation memory, as if the model had given them: its server is not asked for what is there."""
    rows = [(text, answer, 0, len(text.split())) for text, answer in said.items()]
    schema = {"text": pl.String, "translation": pl.String, "untranslated": pl.Int32, "words": pl.Int32}
    memory = Memory(store, f"memory/{translator.name}-{translator.version}/{source}-{target}", "text")
    memory.learn(pl.DataFrame(rows, schema=schema, orient="row"))


def spanish() -> pl.DataFrame:
    return log(*(("es", query, "t", 1) for query in SAID))


def test_what_a_guard_rejects_is_not_trained_on(store: Store) -> None:
    """Of five answers of a model four are rejected, each by its guard, which the ledger names; the fifth becomes a row."""
    know(store, MODEL, SAID, "es", "de")
    output = ran(store, settings_of(translate=VLLM | {"guards": list(REASONS)}), inputs_of(store, spanish()))
    assert output.table("train").filter(language="de")["query"].to_list() == ["rote schuhe"]
    assert output.report.rows.reasons == {f"dropped: {reason}": 1 for reason in REASONS.values()}
    ledger = {row["source_query"]: (row["reason"], row["detail"]) for row in output.table("ledger").iter_rows(named=True)}
    assert ledger["funda a52"] == ("model name lost", "a52")
    assert ledger["zapatos de salón"] == ("copy of the source", "")
    assert ledger["camisa"] == ("repetition", "hemd")
    assert ledger["zapatos rojos de mujer"][0] == "another language"
    rows = output.report.rows
    assert (rows.incoming, rows.made, rows.kept, rows.dropped) == (5, 5, 6, 4)


def test_without_guards_nothing_new_is_asked(store: Store) -> None:
    """The same answers all become rows, and the output has the files and columns that it had before there were guards."""
    know(store, MODEL, SAID, "es", "de")
    output = ran(store, settings_of(translate=VLLM), inputs_of(store, spanish()))
    assert len(output.table("train").filter(language="de")) == 5
    assert set(output.files) == {f"{name}.parquet" for name in ("train", "dev", "ledger", "samples")}
    assert "detail" not in output.table("ledger").columns


def test_settings_that_are_off_leave_no_trace_in_what_a_stage_is() -> None:
    """A store's finished translations keep their names until one of the checks is switched on."""
    changed = {"guards": "copy", "language_confidence": 0.9}
    assert changed.keys().isdisjoint(TranslateSettings().model_dump())
    assert changed.keys() <= TranslateSettings.model_validate(changed).model_dump().keys()


BACK = """\
term_id	language	name
1	es	orilla del río
1	de	bank
2	es	banco
2	de	bank
3	es	camisa
3	de	hemd
"""


def test_a_language_that_loses_too_much_is_warned_of(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Two of three translations leave a word: 67 % are rejected, said in the log and the report; half is no warning."""
    train = log(*(("es", query, "t", 1) for query in ("camisa", "camisa xyz", "xyz abc")))
    inputs: Inputs = inputs_of(store, train, text=BACK)
    report = translate.run(settings_of(), inputs, store)
    expected = "German (de): 67% of 3 translations were rejected, more than 50%"
    assert report.figures["warnings"] == [expected]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [f"translate: {expected}"]
    assert warnings({"de": {"sampled": 4, "rejected_share": 0.5}}) == []


def test_dev_side_and_known_pairs_are_no_fault_of_a_translation() -> None:
    """Of ten rows eight are refused for what they are and one for what it says: a tenth is rejected, and nothing is warned of."""
    reasons = ["dev side"] * 4 + ["pair exists"] * 4 + ["length ratio", None]
    rows = pl.DataFrame({"reason": reasons, "untranslated": [1] * 5 + [0] * 5, "words": [4] * 10})
    about = figures(rows)
    assert about["rejected"] == {"dev side": 4, "length ratio": 1, "pair exists": 4}
    assert (about["sampled"], about["made"], about["rejected_share"], about["untranslated_share"]) == (10, 1, 0.1, 0.125)
    assert warnings({"de": about}) == []
