"""The labelled pair: normalisation, ids, groups, sides."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from relevance_core import pairs

SPELLINGS = [
    ("  red \t dress\n", "red dress"),
    ("ｒｅｄ　dress", "red dress"),
    ("red\u200b \u202edress\u2066", "red dress"),
    ("cafe\u0301", "café"),
    ("掲示板用飾り", "掲示板用飾り"),
    ("\x00a\x07b", "ab"),
    ("a\x1cb\x1fc \x1d d\x85e\xa0f\u3000g\u2028h", "abc d e f g h"),
    ("42½ zoll, 10² m, 7½", "42½ zoll, 10² m, 7½"),
    ("ทำ", "ทำ"),
    ("ㅋㅋ", "ㅋㅋ"),
    ("ﬁsh™ № ㎡", "ﬁsh™ № ㎡"),
    ("ｶﾞﾗｽ ﾊﾟﾝ ｷﾛ", "ガラス パン キロ"),
    ("Ａ４　１２\uff02", 'A4 12"'),
    ("\u3164", ""),
    ("\u115f \u1160\uffa0\u2800\ufe0f\u200b", ""),
    ("a\u3164b", "a\u3164b"),
    ("می\u200cخواهم", "می\u200cخواهم"),  # the letters would join
    ("کار\u200cها", "کارها"),  # they don't
    (
        "\u0915\u094d\u200d\u0937 \u0915\u094d\u200c\u0937",
        "\u0915\u094d\u200d\u0937 \u0915\u094d\u200c\u0937",
    ),  # two writings of k + sha
    ("\u0d28\u0d4d\u200d", "\u0d28\u0d4d\u200d"),  # Malayalam's chillu n, as it was written before Unicode 5.1
    ("\u09b0\u200d\u09cd\u09af", "\u09b0\u200d\u09cd\u09af"),  # Bengali's ra with ya-phala
    ("\U0001f469\u200d\U0001f4bb", "\U0001f469\U0001f4bb"),
    ("e\u200d\u0301", "é"),
    ("half \ud83d", "half"),
]
OF_COLUMNS = [(raw, clean) for raw, clean in SPELLINGS if "\ud83d" not in raw]  # a column holds no half surrogate
RECORDED: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data" / "rule_1.json").read_text())
"""Texts with what release 0.1 made of them: `group` of the text, `stored` and its `stored_group` and `pair_id`."""

ODD = (
    "aeA 1½²™ \u3000\xa0\x85\n\u200b\u200c\u200d\xad\u2060\ufeff\ue000\u0301\u0323\u0315\u0327\u3099\u309a\u0654\u064b\u0651"
    "\u0670\ufe0f\u034f\u1160\u3164\u2800\uffa0ｶﾞﾟﾊＡ１ﾡبتادهمی\u0621\u0640कष\u093c\u094d\u093eর\u09bc\u09cd\u09be\u09c7ന\u0d4d\u0d3e\u0d46\u0dca\u0dd9ทำํاㅋ각\u1100\u1161\u11a8👩💻"
    "\u1e030\U0001e030\U00016121\U000113c2"
)
BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"


def many_texts() -> list[str]:
    """Every assigned character and some others, alone and between letters, and 50,000 strings of odd ones."""
    kinds = ((c, unicodedata.category(chr(c))) for c in range(0x110000))
    codes = [c for c, kind in kinds if kind != "Cs" and (kind not in ("Cn", "Co") or not c % 499 or 0x1CCD0 < c < 0x1E050)]
    draw = random.Random(15)
    strings = ("".join(draw.choices(ODD, k=draw.randrange(2, 10))) for _ in range(50_000))
    return [*map(chr, codes), *(f"a{chr(c)}b" for c in codes), *strings]


@pytest.mark.parametrize(("raw", "clean"), SPELLINGS)
def test_normalisation_leaves_what_a_reader_sees(raw: str, clean: str) -> None:
    """One space for any white space, no control, bidi or needless zero-width character, usual widths; meaning stays."""
    assert pairs.normalise(raw) == clean


def test_a_column_is_normalised_as_a_text_is() -> None:
    """The vectorised normalisation agrees with the one for a single text."""
    frame = pl.DataFrame({"query": [raw for raw, _ in OF_COLUMNS] + [None]})
    assert frame.select(pairs.normalise_expr("query"))["query"].to_list() == [clean for _, clean in OF_COLUMNS] + [None]


def test_the_rule_holds_for_all_of_unicode() -> None:
    """A column agrees with the single texts; a normalised text stays; its group is that of the text as rule 1 stored it.

    Texts of blank characters alone have no group: they are empty now and go to quarantine.
    """
    texts = many_texts()
    single = [pairs.normalise(text) for text in texts]
    assert pairs.normalised(pl.Series(texts)).to_list() == single
    assert [pairs.normalise(text) for text in single] == single
    some = texts[:: len(texts) // 500]
    assert pairs.normalised(pl.Series(some), 1).to_list() == [pairs.normalise(text, 1) for text in some]
    stored = pairs._of_rule_1(pl.Series(texts)).to_list()
    moved = [
        text
        for text, new, old in zip(texts, single, stored, strict=True)
        if new and pairs.query_group(new) != pairs.query_group(old)
    ]
    assert moved == []
    emptied = {text for text, new, old in zip(texts, single, stored, strict=True) if old and not new}
    assert {text for text in emptied if len(text) == 1 and text not in BLANK} == {
        chr(c) for c in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
    }


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: ascii(case["text"])[:20])
def test_groups_and_old_ids_are_those_that_were_recorded(case: dict[str, Any]) -> None:
    """233 texts: their group, text and id of rule 1 are what the release before TEXT_RULE made of them."""
    assert pairs.query_group(case["text"]) == case["group"]
    assert pairs.query_group(case["stored"]) == case["stored_group"]
    assert pairs.digest("group", pairs.normalise(case["text"], rule=1).casefold()) == case["group"]
    row = pl.DataFrame(
        {"task": "QC", "language": "en", "query": pairs.normalise(case["text"]), "target": "shoes", "target_id": "1"}
    )
    before = row.with_columns(query_original=pl.lit(case["text"]), target_original=pl.lit("shoes"))
    assert pairs.old_ids(before).to_list() == [case["pair_id"]]
    same = row["query"][0] == case["stored"] == pairs.normalise(case["stored"], rule=1)
    assert (pairs.with_ids(row)["pair_id"][0] == case["pair_id"]) == same


def id_row(query: str, target: str, target_id: str = "") -> dict[str, str]:
    """A normalised row, with a digest for a target without an id."""
    target = pairs.normalise(target)
    return {
        "task": "QI",
        "language": "de",
        "query": pairs.normalise(query),
        "target": target,
        "target_id": target_id or pairs.digest("target", target),
    }


def test_what_was_stored_under_an_old_id_has_its_pairs_new_one() -> None:
    """10² and 10₂ were both stored as 102: their decision goes to both; 102 itself keeps its own, and no pair has two."""
    rows = pairs.with_ids(
        pl.DataFrame([id_row(q, t) for q, t in (("10²", "a"), ("10₂", "a"), ("7½", "b™"), ("7", "c"), ("5²", "d"), ("52", "d"))])
    )
    old = [
        pairs.digest("pair", "QI", "de", q, t, pairs.digest("target", t))
        for q, t in (("102", "a"), ("71⁄2", "bTM"), ("7", "c"), ("52", "d"))
    ]
    assert pairs.old_ids(rows).to_list() == [old[0], old[0], old[1], old[2], old[3], old[3]]
    assert [new in old for new in rows["pair_id"]] == [False, False, False, True, False, True]
    stored = pl.DataFrame({"pair_id": [*old, "gone", rows["pair_id"][1]], "label": [0, 1, 0, 1, 0, 1]})
    found = dict(pairs.matched(stored, rows).iter_rows())
    assert found == dict(
        zip([*rows["pair_id"][[0]], *rows["pair_id"][[2, 3, 5]], "gone", rows["pair_id"][1]], [0, 1, 0, 1, 0, 1], strict=True)
    )
    assert (
        pairs.matched(stored.drop_nulls().filter(pl.col("pair_id") == old[0]), rows)["pair_id"].to_list()
        == rows["pair_id"][[0, 1]].to_list()
    )
    assert pairs.matched(stored.clear(), rows).is_empty()
    assert pairs.matched(stored, rows.clear()).equals(stored)


def test_what_was_stored_under_the_id_of_a_float_is_its_pairs() -> None:
    """The id 1001.0 was one of its own, beside 1001: its decision goes to 1001, unless 1001 has one; digests stay as they are."""
    rows = pairs.with_ids(pl.DataFrame([id_row("10²", "a", "1001"), id_row("7", "b", "1002"), id_row("7", "c")]))
    old = [
        pairs.digest("pair", "QI", "de", *texts) for texts in (("102", "a", "1001.0"), ("102", "a", "1001"), ("7", "b", "1002.0"))
    ]
    stored = pl.DataFrame({"pair_id": [old[0], old[2], rows["pair_id"][1], rows["pair_id"][2]], "label": [0, 1, 0, 1]})
    assert pairs.matched(stored, rows).rows() == [
        (rows["pair_id"][0], 0),
        (old[2], 1),
        (rows["pair_id"][1], 0),
        (rows["pair_id"][2], 1),
    ]
    both = pl.DataFrame({"pair_id": [old[0], old[1]], "label": [0, 1]})
    assert pairs.matched(both, rows).rows() == [(old[0], 0), (rows["pair_id"][0], 1)]


def test_spellings_of_one_query_share_its_group_and_side() -> None:
    """Case and white space do not move a query to another group."""
    assert pairs.query_group("Red  Dress") == pairs.query_group("red dress") != pairs.query_group("red dresses")


def test_parts_of_a_digest_cannot_run_into_each_other() -> None:
    """("ab", "c") and ("a", "bc") have different digests."""
    assert pairs.digest("ab", "c") != pairs.digest("a", "bc")


def test_the_digests_of_columns_are_those_of_their_rows() -> None:
    """Short, empty, long and non-Latin texts, beside a text that is the same in every row, and no rows at all."""
    first = pl.Series(["a", "", "x" * 300, "日本"])
    second = pl.Series(["bc", "abc", "", "ü" * 70_000])
    one_by_one = [pairs.digest("pair", *row, size=32) for row in zip(first, second, strict=True)]
    assert pairs.digests("pair", first, second, size=32).to_list() == one_by_one
    assert pairs.digests("pair", first.clear(), second.clear()).to_list() == []


def test_the_shares_of_a_column_are_those_of_its_groups() -> None:
    """To the last bit, for a thousand groups."""
    groups = pl.Series([f"group {n}" for n in range(1000)])
    assert pairs.shares_of(groups, "mine").to_list() == [pairs.share_of(group, "mine") for group in groups]


def test_a_side_depends_on_the_group_alone_and_meets_its_share() -> None:
    """Of 10,000 groups a fifth are dev, within three standard errors, and a larger share only adds to them."""
    groups = [pairs.query_group(f"query {n}") for n in range(10_000)]
    dev = {group for group in groups if pairs.side_of(group, 0.2) == "dev"}
    assert 1880 < len(dev) < 2120
    assert dev <= {group for group in groups if pairs.side_of(group, 0.3) == "dev"}


def test_ids_are_those_of_every_machine() -> None:
    """A pair's id is a fixed function of its content."""
    frame = pl.DataFrame({"task": ["QC"], "language": ["en"], "query": ["red dress"], "target": ["dresses"], "target_id": ["1"]})
    expected = pairs.digest("pair", "QC", "en", "red dress", "dresses", "1")
    assert pairs.with_ids(frame)["pair_id"].to_list() == [expected] == ["4541c7388fe204f1"]
