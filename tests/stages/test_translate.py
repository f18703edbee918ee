"""Translators, the translation memory and the *translate* stage."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Sequence

import polars as pl
import pytest

from relevance_core import pairs
from relevance_core.errors import DataError, NotFound, SettingsError, StoreError
from relevance_core.stages.translate import stage as translate
from relevance_core.store import Store
from relevance_core.store.memory import Memory
from relevance_core.translators import (
    GlossaryTranslator,
    Keepsakes,
    Term,
    Translated,
    add_english,
    open_translator,
    read_brands,
    read_terms,
    save,
    translate_and_remember,
)
from tests.support.stage_cases import log
from tests.support.translate_cases import GLOSSARY, glossary, inputs_of, ran, settings_of


def terms(*rows: tuple[str, str, str]) -> GlossaryTranslator:
    return GlossaryTranslator(tuple(Term(*row) for row in rows))


def said(translator: GlossaryTranslator, text: str, source: str, target: str) -> str:
    return translator.translate([text], source, target)[0].text


def test_the_longest_phrase_wins() -> None:
    """`zapatillas de correr` is one term and not `zapatillas` with two words left over."""
    assert glossary().translate(["zapatillas de correr roja"], "es", "en") == [Translated("running shoes red", 0, 4)]
    assert glossary().translate(["zapatillas rojo"], "es", "en") == [Translated("shoes red", 0, 2)]


@pytest.mark.parametrize("text", ["T-Shirt", "t shirt", "T‑shirt", "Ｔ－ＳＨＩＲＴ"])
def test_case_punctuation_and_unicode_form_do_not_matter(text: str) -> None:
    """All spellings of the same two words are the same phrase."""
    assert said(glossary(), text, "en", "es") == "camiseta"


def test_every_name_is_recognised_and_the_first_is_said() -> None:
    """`Oberhemd` is read as term 1, and what is said for term 1 in German is `Hemd`."""
    assert said(glossary(), "Rotes Oberhemd", "de", "es") == "rojo camisa"
    assert said(glossary(), "camisa roja", "es", "de") == "hemd rot"


def test_a_text_with_capitals_keeps_those_of_the_names() -> None:
    """Queries are mostly lower case, and their translations are then too."""
    assert said(glossary(), "Camisa", "es", "de") == "Hemd"


def test_a_shared_name_goes_to_the_term_that_prefers_it() -> None:
    """`bank` is the second name of term 1 and the first of terms 2 and 3: the first of those two wins."""
    shared = terms(
        ("1", "de", "sofa"), ("1", "de", "bank"), ("1", "en", "sofa"),
        ("2", "de", "bank"), ("2", "en", "bench"),
        ("3", "de", "bank"), ("3", "en", "money bank"),
    )  # fmt: skip
    assert said(shared, "bank", "de", "en") == "bench"


def test_unknown_words_stay_and_are_counted() -> None:
    """Two of four words are unknown; they stay where they were, with what stood between them."""
    assert glossary().translate(["roja xyz-abc camisa"], "es", "en") == [Translated("red xyz-abc shirt", 2, 4)]


def test_numbers_units_and_brands_stay_and_are_not_counted() -> None:
    """Of `veltano camisa 2,5 l 500ml` only `camisa` is a word to translate; `l` is a unit because it follows a number."""
    brand = glossary(brands=["Veltano"])
    assert brand.translate(["veltano camisa 2,5 l 500ml"], "es", "en") == [Translated("veltano shirt 2,5 l 500ml", 0, 1)]
    assert brand.translate(["l camisa"], "es", "en")[0].untranslated_words == 1


def test_a_brand_is_not_translated() -> None:
    """A brand that is a word of the language stays that word."""
    assert said(glossary(brands=["Red Shirt"]), "red shirt shirt", "en", "de") == "red shirt hemd"


def test_japanese_is_read_by_characters() -> None:
    """Without spaces the longest name at each character is taken, Latin words stand for themselves, and characters are counted."""
    ja = terms(
        ("1", "ja", "靴"), ("1", "en", "shoes"),
        ("2", "ja", "靴下"), ("2", "en", "socks"),
        ("3", "ja", "赤い"), ("3", "en", "red"),
        ("4", "ja", "DVDケース"), ("4", "en", "DVD cases"),
    )  # fmt: skip
    assert ja.translate(["赤い靴下"], "ja", "en") == [Translated("red socks", 0, 4)]
    assert ja.translate(["赤い靴猫"], "ja", "en") == [Translated("red shoes 猫", 1, 4)]
    assert said(ja, "dvd ケース", "ja", "en") == "dvd cases"
    assert said(ja, "red socks", "en", "ja") == "赤い靴下"


def test_thai_vowel_and_tone_marks_distinguish_words() -> None:
    """`มา` (come) and `ม้า` (horse) differ by a tone mark alone."""
    thai = terms(("1", "th", "มา"), ("1", "en", "come"), ("2", "th", "ม้า"), ("2", "en", "horse"))
    assert [said(thai, text, "th", "en") for text in ("มา", "ม้า")] == ["come", "horse"]


@pytest.mark.parametrize("typed", ["camiesta", "camseta", "camisseta", "cameseta"])
def test_a_slip_of_the_keyboard_is_read_through(typed: str) -> None:
    """Two letters swapped, one missing, one too many, one wrong: each is one slip from `camiseta` alone."""
    assert glossary().translate([typed], "es", "en") == [Translated("t-shirt", 0, 1)]


def test_a_slip_that_fits_two_words_is_not_guessed() -> None:
    """`tabla` and `tabli` are both one slip from `tablo`, so it stays."""
    two = terms(("1", "es", "tabla"), ("1", "en", "board"), ("2", "es", "tabli"), ("2", "en", "other"))
    assert two.translate(["tablo"], "es", "en") == [Translated("tablo", 1, 1)]


def test_a_slip_across_a_space_is_read_through() -> None:
    """`zapatillasd e correr` has a letter and the space swapped."""
    assert said(glossary(), "zapatillasd e correr", "es", "en") == "running shoes"


def test_short_words_are_never_respelled() -> None:
    """`roj` is one letter from `rojo`, but too short to be sure."""
    assert glossary().translate(["roj"], "es", "en")[0].untranslated_words == 1


def test_a_part_of_a_joined_name_is_known() -> None:
    """A name that two names make is shortened by people; the part stands for its counterpart, or for the whole where none is."""
    joined = terms(
        ("1", "de", "Tiere & Tierbedarf"), ("1", "en", "Animals & Pet Supplies"),
        ("2", "de", "Tassen und Becher"), ("2", "en", "Mugs"),
    )  # fmt: skip
    assert said(joined, "tierbedarf", "de", "en") == "pet supplies"
    assert said(joined, "becher", "de", "en") == "mugs"


def test_a_language_without_names_is_refused() -> None:
    """Asking for Polish names the languages that there are."""
    with pytest.raises(NotFound, match=r"Polish.*de, en, es"):
        glossary().translate(["buty"], "pl", "en")


def test_the_version_is_that_of_the_content() -> None:
    """The same terms and brands have the same version, anything else another."""
    assert glossary().version == glossary().version
    assert len({glossary().version, glossary(brands=["x"]).version, glossary(GLOSSARY + "6\ten\that\n").version}) == 3


def test_a_saved_translator_says_the_same(store: Store) -> None:
    """What `save` keeps opens as the same version with the same answers."""
    translator = glossary(brands=["Veltano", "Red Shirt"])
    ref = save(translator, store)
    again = open_translator(ref, store)
    assert ref == {"name": "glossary", "version": translator.version, "key": f"translators/glossary-{translator.version}"}
    assert again.version == translator.version
    assert again.translate(["camisa veltano"], "es", "de") == translator.translate(["camisa veltano"], "es", "de")


def test_a_saved_translator_that_changed_is_refused(store: Store) -> None:
    """Another brand file under the same reference is another translator."""
    ref = save(glossary(), store)
    store.write(f"{ref['key']}/brands.txt", b"shirt\n")
    with pytest.raises(DataError, match="version"):
        open_translator(ref, store)


def test_the_first_column_may_have_any_name() -> None:
    """Columns are found by name, the remaining one is the id; gzip is recognised by its content."""
    data = gzip.compress(b"language\tcategory_id\tname\nen\t7\tshirt\n")
    assert read_terms(data, "terms.tsv.gz") == (Term("7", "en", "shirt"),)


@pytest.mark.parametrize(
    ("text", "where"), [("a\tb\n1\t2\n", "line 1"), ("id\tlanguage\tname\n1\ten\tx\n2\ten\n", "line 3"), ("", "line 1")]
)
def test_a_bad_glossary_names_the_line(text: str, where: str) -> None:
    """A missing column and a short row are refused where they stand."""
    with pytest.raises(DataError, match=where):
        read_terms(text.encode(), "terms.tsv")


EXCEL = 'term_id\tlanguage\tname\n1\ten\t"12"" pan"\n1\tde\t"Pfanne, Ø 12"""\n2\tEN\tpot\n'
SAVED = (Term("1", "en", '12" pan'), Term("1", "de", 'Pfanne, Ø 12"'), Term("2", "en", "pot"))


@pytest.mark.parametrize(
    "data",
    [
        EXCEL.encode(),
        EXCEL.encode("utf-8-sig"),
        EXCEL.encode("utf-16"),
        gzip.compress(EXCEL.encode("utf-16-le")),
        EXCEL.replace("\n", "\r\n").encode() + b"\r\n",
        EXCEL.replace("\n", "\r").encode(),
        EXCEL.replace("term_id\tlanguage\tname", "Term\tLanguage\tNAME").encode() + b"\t\t\n",
    ],
    ids=["utf-8", "mark", "utf-16", "gzip", "CRLF", "CR", "capitals"],
)
def test_a_glossary_saved_by_excel_is_read(data: bytes) -> None:
    """Names with quotes around them, any line end, Unicode of any width, capital names of columns, a blank line at the end."""
    assert read_terms(data, "terms.tsv") == SAVED


def test_quotes_that_quote_nothing_are_text() -> None:
    """Inch marks in a glossary without quoted names stay, also at a name's begin; so do those of a glossary that was kept."""
    text = b'id\tlanguage\tname\n1\ten\t12" pan\n2\ten\t"pan\n'
    assert [term.name for term in read_terms(text, "terms.tsv")] == ['12" pan', '"pan']
    assert read_terms(b'id\tlanguage\tname\n1\tEN\t"a"\n', "terms.tsv.gz", kept=True) == (Term("1", "EN", '"a"'),)


def test_names_with_quotes_survive_the_store(store: Store) -> None:
    """A name that begins and ends with a quote, or had a line end, is the same after it was kept."""
    terms = read_terms(b'id\tlanguage\tname\n1\ten\t"""best"""\n1\tde\t"am\nbesten"\n', "terms.tsv")
    assert [term.name for term in terms] == ['"best"', "am besten"]
    ref = save(GlossaryTranslator(terms, ()), store)
    assert open_translator(ref, store).version == ref["version"]


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ("id\tlanguage\tname\n1\tde\tTöpfe\n".encode("cp1252"), "terms.tsv, line 2, byte 23"),
        (b'id\tlanguage\tname\n1\ten\t"a"\n2\ten\t"b\n', "terms.tsv, line 3"),
        (gzip.compress(b"id\tlanguage\tname\n1\ten\ta\n")[:-8], "terms.tsv, line 3, byte 24"),
    ],
    ids=["encoding", "open quote", "cut archive"],
)
def test_a_glossary_that_cannot_be_read_names_the_place(data: bytes, where: str) -> None:
    """Another encoding, a quote that does not close, and a cut archive are data errors, status 65."""
    with pytest.raises(DataError) as caught:
        read_terms(data, "terms.tsv")
    assert (caught.value.where, caught.value.exit_code) == (where, 65)
    assert not caught.value.do.startswith("set ")  # no setting is for this file


def test_brands_are_one_a_line() -> None:
    """Comments and empty lines are none, repeated ones are one; UTF-16 is read, another encoding is refused."""
    assert read_brands(b"# shops\nVeltano\n\nVeltano\nRed Shirt\n") == ("Veltano", "Red Shirt")
    assert read_brands("Nike\rCafé\r".encode("utf-16")) == ("Nike", "Café")
    with pytest.raises(DataError, match=r"0xE9 is no utf-8.*b\.txt, line 2, byte 8"):
        read_brands("Nike\nCafé\n".encode("cp1252"), "b.txt")


def test_keepsakes_count_numbers_units_and_brands() -> None:
    """The decimal sign is the language's, the digits are not; a unit counts after a number only."""
    keep = Keepsakes(["Red Shirt"])
    assert keep.of("red shirt 2,5 l 2 l l", "es") == {"red shirt": 1, "25": 1, "2": 1, "l": 2}
    assert keep.of("2.5 L", "en") == {"25": 1, "l": 1}


class Counting:
    """A translator that upper-cases and keeps what it was asked."""

    name, version, languages, batch = "upper", "1", frozenset(("en", "es", "de")), 100

    def __init__(self) -> None:
        self.asked: list[str] = []

    def can(self, source: str, target: str) -> bool:
        return True

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        self.asked += texts
        return [Translated(text.upper(), 0, 1) for text in texts]


def test_a_text_is_translated_once(store: Store) -> None:
    """Of the second night's three texts only the new one is translated."""
    first, second = Counting(), Counting()
    translate_and_remember(first, store, pl.Series(["b", "a", "b"]), "es", "en")
    known, hits = translate_and_remember(second, store, pl.Series(["c", "a", "b", None]), "es", "en")
    assert (first.asked, second.asked, hits) == (["a", "b"], ["c"], 2)
    assert dict(known.select("text", "translation").iter_rows()) == {"a": "A", "b": "B", "c": "C"}


def test_the_memory_is_of_one_version_and_direction(store: Store) -> None:
    """Another version, or the same pair of languages the other way round, starts with nothing."""
    translate_and_remember(Counting(), store, pl.Series(["a"]), "es", "en")
    newer, back = Counting(), Counting()
    newer.version = "2"
    translate_and_remember(newer, store, pl.Series(["a"]), "es", "en")
    translate_and_remember(back, store, pl.Series(["a"]), "en", "es")
    assert newer.asked == back.asked == ["a"]


def test_writers_at_the_same_time_lose_nothing(store: Store) -> None:
    """Eight writers of overlapping rows leave a memory that holds each key once."""
    memory = Memory(store, "memory/test", "text")
    rows = [pl.DataFrame({"text": [f"{n}", f"{n + 1}"], "answer": [n, n + 1]}) for n in range(8)]
    writers = [threading.Thread(target=memory.learn, args=(frame,)) for frame in rows]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    known = memory.recall(pl.Series([str(n) for n in range(20)]))
    assert known is not None
    assert dict(known.iter_rows()) == {str(n): n for n in range(9)}


def test_a_damaged_segment_is_named(store: Store) -> None:
    """A segment whose content does not fit its name is refused, never half-read."""
    memory = Memory(store, "memory/test", "text")
    memory.learn(pl.DataFrame({"text": ["a"]}))
    (entry,) = store.list("memory/test/")
    store.write(entry.key, store.read(entry.key) + b"x")
    with pytest.raises(StoreError, match="damaged"):
        memory.recall(pl.Series(["a"]))


def test_english_comes_from_the_query_alone(store: Store) -> None:
    """It is null for English, for a language that the glossary lacks, and without a translator; row order stays."""
    frame = pl.DataFrame({"language": ["es", "en", "pl", "de"], "query": ["camisa roja", "shirt", "koszula", "rotes hemd"]})
    assert add_english(frame, glossary(), store)["english"].to_list() == ["shirt red", None, None, "red shirt"]
    assert add_english(frame, None, store)["english"].to_list() == [None] * 4
    alone = add_english(frame.tail(1), glossary(), store)
    assert alone["english"].to_list() == ["red shirt"]


# --- the stage ---


def test_a_translated_pair_keeps_all_but_its_query(store: Store) -> None:
    """One Spanish row becomes one German row with its label, target, group and time; the number of rows adds up."""
    train = log(("es", "camisa roja", "shirts", 1))
    output = ran(store, settings_of(), inputs_of(store, train))
    made = output.table("train").filter(origin="translation")
    source = train.row(0, named=True)
    row = made.row(0, named=True)
    assert (row["language"], row["query"], row["english"]) == ("de", "hemd rot", None)
    assert row["origin_id"] == source["pair_id"]
    assert row["pair_id"] == pairs.pair_id("QC", "de", "hemd rot", "shirts", "")
    assert {key: row[key] for key in ("target", "label", "group", "event_time", "weight")} == {
        key: source[key] for key in ("target", "label", "group", "event_time", "weight")
    }
    assert output.report.rows.as_json() == {"in": 2, "made": 1, "kept": 2, "quarantined": 0, "dropped": 0, "reasons": {}}


def test_each_guard_drops_what_it_is_for(store: Store) -> None:
    """Five Spanish rows: one unknown, one mostly unknown, one whose number is lost, one far too short, one good."""
    text = (
        GLOSSARY
        + "7\tes\t3d\n7\tde\tplastisch\n7\ten\t3d\n8\tes\tpantalones de trabajo muy largos\n8\tde\tx\n8\ten\tlong trousers\n"
    )
    rows = ("xyz", "camisa xyz abc", "camisa 3d", "pantalones de trabajo muy largos", "camisa roja")
    output = ran(store, settings_of(), inputs_of(store, log(*(("es", query, "shirts", 1) for query in rows)), text=text))
    ledger = dict(output.table("ledger").select("source_query", "reason").iter_rows())
    assert ledger == {
        "xyz": "nothing translated",
        "camisa xyz abc": "too much left untranslated",
        "camisa 3d": "number, unit or brand lost",
        "pantalones de trabajo muy largos": "length ratio",
    }
    figures = output.report.figures["languages"]["de"]
    assert (figures["sampled"], figures["made"], sum(figures["rejected"].values())) == (5, 1, 4)
    assert output.report.rows.reasons == {f"dropped: {reason}": 1 for reason in ledger.values()}


def test_what_belongs_to_the_dev_side_never_trains(store: Store) -> None:
    """Nothing is made while every query is on the dev side; otherwise a text that a dev query has is refused."""
    train = log(("es", "camisa roja", "shirts", 1), ("es", "camiseta", "shirts", 1))
    nothing = ran(store, settings_of(split={"dev_share": 1 - 1e-9}), inputs_of(store, train))
    assert nothing.report.rows.reasons == {"dropped: dev side": 2}
    dev = log(("de", "Hemd rot", "trousers", 0))
    some = ran(store, settings_of(), inputs_of(store, train, dev))
    assert some.table("ledger").select("translation", "reason").rows() == [("hemd rot", "dev side")]


def test_an_existing_pair_is_not_made_again(store: Store) -> None:
    """The German pair of the log stays alone, and two sources that say the same make one row."""
    train = log(
        ("es", "camisa", "shirts", 1),
        ("en", "shirt", "shirts", 1),
        ("de", "hemd", "shirts", 1),
        ("en", "red", "reds", 1),
        ("es", "rojo", "reds", 1),
    )
    output = ran(store, settings_of(translate={"min_rows": 0, "of_largest": 3.0}), inputs_of(store, train))
    assert output.report.rows.reasons == {"dropped: pair exists": 3}
    assert output.table("train").filter(language="de")["query"].sort().to_list() == ["hemd", "rot"]


def test_the_sample_is_balanced_and_spreads_over_queries() -> None:
    """Of 6 positives of 3 queries and 2 negatives, 4 rows are 2 and 2, and the positives are of two queries."""
    train = log(*(("es", f"q{n % 3}", f"t{n}", 1) for n in range(6)), ("es", "q0", "n0", 0), ("es", "q1", "n1", 0))
    sample = translate.sample_pairs(train, "de", "QC", 4, set(), frozenset(("es", "de")))
    assert sample["label"].to_list() == [1, 1, 0, 0]
    assert sample.filter(label=1)["query"].n_unique() == 2
    assert translate.sample_pairs(train, "de", "QC", 7, set(), frozenset(("es",)))["label"].sum() == 5


def test_the_sample_hardly_changes_overnight() -> None:
    """The order of rows does not matter, and of a sample of 50 out of 100 at most 10 leave when 10 queries come."""
    train = log(*(("es", f"q{n}", "t", 1) for n in range(110)))
    known = frozenset(("es",))
    tonight = translate.sample_pairs(train, "de", "QC", 50, set(), known)
    last_night = translate.sample_pairs(train.head(100), "de", "QC", 50, set(), known)
    assert translate.sample_pairs(train.reverse(), "de", "QC", 50, set(), known).equals(tonight)
    assert len(set(last_night["pair_id"]) - set(tonight["pair_id"])) <= 10


def test_a_small_trained_language_is_topped_up(store: Store) -> None:
    """Spanish has one row of a quota of three, so two of the English ones are translated; English has its quota."""
    train = log(
        ("es", "zapatillas", "shoes", 1),
        *(("en", query, "shirts", 1) for query in ("shirt", "red shirt", "t-shirt", "red t-shirt")),
    )
    output = ran(store, settings_of(translate={"min_rows": 3}), inputs_of(store, train, onboarded=()))
    assert {language: f["wanted"] for language, f in output.report.figures["languages"].items()} == {"es": 2}
    assert len(output.table("train").filter(language="es")) == 3


def test_the_prompt_carries_english_of_every_other_language(store: Store) -> None:
    """Train, translated and dev rows get it; a translated row from its own text, where `oberhemd` has become `hemd`."""
    train, dev = log(("en", "shirt", "shirts", 1)), log(("es", "camisa roja", "shirts", 1))
    output = ran(store, settings_of(prompt={"translation": True}), inputs_of(store, train, dev))
    english = {(row["language"], row["query"]): row["english"] for row in output.table("train").iter_rows(named=True)}
    assert english == {("en", "shirt"): None, ("de", "hemd"): "shirt"}
    assert output.table("dev")["english"].to_list() == ["shirt red"]


def test_a_language_that_cannot_be_translated_is_refused_by_name(store: Store) -> None:
    """Onboarding without a glossary, or into a language that it lacks, says what to do."""
    train = log(("es", "camisa", "shirts", 1))
    with pytest.raises(SettingsError, match=r"no glossary.*onboarding de"):
        translate.run(settings_of(), inputs_of(store, train, text=None), store)
    with pytest.raises(SettingsError, match=r"glossary can't translate into pl from es.*de, en, es"):
        translate.run(settings_of(), inputs_of(store, train, onboarded=["pl"]), store)


def test_switched_off_it_passes_everything_through(store: Store) -> None:
    """No row is made, and the glossary is kept for the stages after it."""
    train = log(("es", "camisa", "shirts", 1))
    output = ran(store, settings_of(translate={"enabled": False}), inputs_of(store, train))
    assert output.table("train").drop("english").equals(train)
    assert output.report.figures["translator"]["name"] == "glossary"
    assert output.table("ledger").is_empty()


def test_the_second_night_finds_its_translations(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """The same rows under another window are translated from memory alone, with the same tables."""
    train = log(("es", "camisa", "shirts", 1), ("es", "camiseta", "shirts", 0))
    caplog.set_level("INFO", "relevance_core")
    first = translate.run(settings_of(), inputs_of(store, train), store)
    wider = settings_of(translate={"min_rows": 0, "max_untranslated": 0.4})
    second = translate.run(wider, inputs_of(store, train), store)
    assert any("2 texts from the translation memory" in line for line in caplog.messages)
    assert first.address != second.address
    assert first.digest == second.digest
