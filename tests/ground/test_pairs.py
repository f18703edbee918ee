"""The labelled pair: normalisation, ids, groups, sides."""

from __future__ import annotations

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
]


@pytest.mark.parametrize(("raw", "clean"), SPELLINGS)
def test_normalisation_leaves_what_a_reader_sees(raw: str, clean: str) -> None:
    """NFKC, one space for any white space, no control, zero-width or bidi character."""
    assert pairs.normalise(raw) == clean


def test_a_column_is_normalised_as_a_text_is() -> None:
    """The vectorised normalisation agrees with the one for a single text."""
    frame = pl.DataFrame({"query": [raw for raw, _ in SPELLINGS]})
    assert frame.select(pairs.normalise_expr("query"))["query"].to_list() == [clean for _, clean in SPELLINGS]


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
