"""JSON lines and JSON arrays: every row that an independent reader sees is a row here, or is named with its line."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from relevance_core.sources import jsonlines
from relevance_core.sources.jsonlines import read_json_array, read_json_lines
from relevance_core.sources.reading import Options, Unreadable
from relevance_core.sources.text import decode_rows

QUARANTINE = Options(bad_rows="quarantine")
A = b'{"query": "a"}\n'


def _lines(data: bytes, options: Options = QUARANTINE) -> list[dict[str, Any]]:
    return read_json_lines(data, options).rows.to_dicts()


def _elements(data: bytes, options: Options = QUARANTINE) -> list[dict[str, Any]]:
    return read_json_array(data, options).rows.to_dicts()


def _row(query: str | None, line: int, unread: str | None = None) -> dict[str, Any]:
    return {"query": query, "line": line, "unread": unread}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_as_their_system_ends_them(end: bytes) -> None:
    """Blank lines are no rows, and a row keeps the number of its line; the last line needs no end."""
    data = end.join([b'{"query": "a"}', b"", b"  ", b'{"query": "b\\n"}'])
    assert _lines(data) == _lines(data + end) == [_row("a", 1), _row("b\n", 4)]


def test_values_are_text_by_their_type() -> None:
    """A list is no text: null and noted, beside the row's other values; the last of two equal keys wins; 1001.0 is 1001."""
    data = b'{"query": ["x", "y"], "id": 1001.0}\n{"query": "a", "query": "b", "id": 1001}\n{"query": true, "id": {"n": 1}}\n'
    assert _lines(data) == [
        {"query": None, "id": "1001", "line": 1, "unread": "query=['x', 'y']"},
        {"query": "b", "id": "1001", "line": 2, "unread": None},
        {"query": "true", "id": None, "line": 3, "unread": "id={'n': 1}"},
    ]


def test_names_of_keys_match_in_any_case_and_own_names_come_first() -> None:
    """QUERY and Query are one column when no object has both; own names are those of source.columns; the others are told."""
    options = Options(columns={"Suchwort": "query"})
    reading = read_json_lines(b'{"QUERY": "a", "x": 1}\n{"Query": "b"}\n{"suchwort": "c", "y": 2}\n', options)
    assert reading.rows["query"].to_list() == ["a", "b", "c"]
    assert reading.ignored == ("x", "y")
    assert reading.form.format == "jsonl"


def test_a_byte_that_is_no_text_costs_its_line() -> None:
    """Two such bytes in a line and a NUL in another: the lines are rows that name the setting, the others are read."""
    data = '{"query": "schön"}\n\n'.encode() + b'{"query": "\xfc\xfc", "id": 1}\n' + A + b'{"query": "\0"}\n' + A
    text, _, undecoded = decode_rows(data, QUARANTINE)
    found = read_json_lines(text, QUARANTINE, undecoded).rows
    other = "; set source.encoding if the file has another encoding"
    assert found.rows() == [
        ("schön", None, 1, None),
        (None, None, 3, f"row=0xFC is no utf-8{other}"),
        ("a", None, 4, None),
        (None, None, 5, f"row=a NUL character (0x00) is no text{other}"),
        ("a", None, 6, None),
    ]
    with pytest.raises(Unreadable):
        decode_rows(data, Options())


def test_two_keys_of_one_name_are_a_bad_row() -> None:
    """Nothing says which of query and QUERY is meant: the row is told, its neighbours are read."""
    told = "row=the keys 'query' and 'QUERY' are both read as query"
    assert _lines(A + b'{"query": "a", "QUERY": "b"}\n' + A) == [_row("a", 1), _row(None, 2, told), _row("a", 3)]


def test_a_key_without_a_value_is_a_missing_column() -> None:
    """A key that is null in every line is no column; one that could not be read is."""
    assert read_json_lines(b'{"query": "a", "label": null}\n', QUARANTINE).rows.columns == ["query", "line", "unread"]
    assert read_json_lines(b'{"query": ["a"]}\n', QUARANTINE).rows.columns == ["query", "line", "unread"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"query": NaN}', "NaN is no JSON value; write null"),
        (b'{"query": -Infinity}', "-Infinity is no JSON value; write null"),
        (b'{"query": "cut', 'the JSON ends before the object does: \'{"query": "cut\''),
        (b'{"query": "\\ud800"}', "half of a surrogate pair stands in it"),
        (b'{"query": "\\udc00 x"}', "half of a surrogate pair stands in it"),
        (b'{"query": 1e400}', "a number is out of range: '{\"query\": 1e400}'"),
        pytest.param(b'{"query": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "the object is nested too deeply", id="nested"),
        (b'[{"query": "b"}]', "the line is a JSON array; set the file's ending to .json or write one object a line"),
        (b"3", "the line is a number"),
        (b'"text"', "the line is a JSON string"),
        (b"null", "the line is null"),
        (b'{"query": "a"}{"query": "b"}', 'more follows the object: \'{"query": "b"}\''),
        (b'{"query": "a\tb"}', 'invalid control character, at \'query": "a\\tb"}\''),
        (b"QC,en,a", "expecting value, at 'QC,en,a'"),
    ],
)
def test_a_bad_line_is_a_row_with_its_reason(line: bytes, why: str) -> None:
    """The row is null with its line and why; with bad_rows=stop the error names line and byte and the setting to change."""
    data = A + line + b"\n" + A
    assert _lines(data) == [_row("a", 1), _row(None, 2, f"row={why}"), _row("a", 3)]
    with pytest.raises(Unreadable) as caught:
        _lines(data, Options())
    assert (caught.value.what, caught.value.line, caught.value.byte) == (f"line 2 can't be read: {why}", 2, len(A))
    assert "source.bad_rows=quarantine" in caught.value.do


def test_an_error_says_how_many_lines_are_bad_and_shows_little_of_them() -> None:
    """The first bad line is told with the number of all; a line of a million characters makes no long error."""
    with pytest.raises(Unreadable, match=r"^2 of 3 lines can't be read, the first is line 2: ") as caught:
        _lines(A + b'{"query": "' + b"x" * 10**6 + b"\n3\n", Options())
    assert len(caught.value.what) < 160


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'[{"query": "a"}, {"query": "b"}]', "line 1 begins a JSON array"),
        (b'\n[\n{"query": "a"},\n{"query": "b"}\n]', "line 2 begins a JSON array"),
        (b'{\n"query": "a"\n}\n{\n"query": "b"\n}\n', "an object goes over several lines, from line 1 to line 3"),
        (A + b'{\n"query": "a"}\n', "an object goes over several lines, from line 2 to line 3"),
        (b"query;target\na;b\n", "2 of 2 lines can't be read, the first is line 1: expecting value, at 'query;target'"),
    ],
)
def test_a_file_of_another_form_is_refused_in_a_few_words(data: bytes, told: str) -> None:
    """An array, objects over lines, or no JSON at all are refused under either setting: their lines are no rows."""
    for options in (QUARANTINE, Options()):
        with pytest.raises(Unreadable) as caught:
            _lines(data, options)
        assert caught.value.what == told
        assert caught.value.do


@pytest.mark.parametrize("data", [b"", b"\n", b" \r\n"])
def test_a_file_without_a_line_has_no_rows(data: bytes) -> None:
    """It is read as a file of lines and as a .json file."""
    assert _lines(data) == _elements(data) == []


def test_blocks_of_a_file_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines keep their numbers, and keys their columns, across the blocks in which a file is read."""
    data = A + b'{"target": 1}\n\n{"query": NaN}\n' + A + b'{"QUERY": "last"}'
    whole = read_json_lines(data, QUARANTINE)
    assert whole.rows["line"].to_list() == [1, 2, 4, 5, 6]
    for size in (1, 5, 20):
        monkeypatch.setattr(jsonlines, "BLOCK", size)
        assert read_json_lines(data, QUARANTINE).rows.equals(whole.rows)
    array = b'[{"query": "a"},\n {"target": 1},\n{"query": "\\ud800"}]'
    read = read_json_array(array, QUARANTINE).rows
    monkeypatch.setattr(jsonlines, "ELEMENTS", 1)
    assert read_json_array(array, QUARANTINE).rows.equals(read)


def test_an_array_is_read_with_the_lines_of_its_elements() -> None:
    """An element's line is that on which it begins."""
    reading = read_json_array(b' [\n {"query": "a,]"}, {"query": "b"},\n\n{"query":\n"c"}]\n', Options())
    assert reading.rows.to_dicts() == [_row("a,]", 2), _row("b", 2), _row("c", 4)]
    assert reading.form.format == "json"
    assert _elements(b"[]") == []


def test_a_json_file_may_hold_lines() -> None:
    """Spark names JSON lines .json; a row on a single line is one too."""
    assert read_json_array(A + A, Options()).form.format == "jsonl"
    assert _elements(A) == [_row("a", 1)]
    assert _elements(A + b'{"query": NaN}\n')[1]["unread"] == "row=NaN is no JSON value; write null"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b'{"data": [{"query": "a"}]}', 'the file is a single JSON object; its rows may be in "data"'),
        (b'{"query": "shoes", "hits": [{"query": "a"}]}', 'the file is a single JSON object; its rows may be in "hits"'),
        (b'{\n "query": "a"\n}\n', "the file is a single JSON object"),
        (b'{"took": 3}', "the file is a single JSON object"),
        (b'{\n"query": "a"\n}\n{\n"query": "b"\n}\n', "an object goes over several lines, from line 1 to line 3"),
        (b'[{"query": "a"},]', "the JSON array is damaged at element 2: expecting value, at ']'"),
        (b'[{"query": "a"}] [', "the JSON array is damaged at element 2: expecting value, at '] ['"),
        (
            b'[{"query": "a"} {"query": "b"}]',
            'the JSON array is damaged at element 1: more follows the object: \'{"query": "b"}]\'',
        ),
    ],
)
def test_a_json_file_of_another_form_is_refused(data: bytes, told: str) -> None:
    """Rows inside an object are named by their key; an array whose damage leaves an element's end open is refused as a whole."""
    for options in (QUARANTINE, Options()):
        with pytest.raises(Unreadable) as caught:
            read_json_array(data, options)
        assert caught.value.what == told


def test_a_bad_element_costs_itself() -> None:
    """NaN, numbers for objects, a damaged element on a line of its own and a cut last one are bad rows; the others are read."""
    data = b'[\n{"query": "a"},\n{"query": NaN},\n{"query": "b" "x"},\n3,\n{"query": "c"}, {"query": "cu'
    assert _elements(data) == [
        _row("a", 2),
        _row(None, 3, "row=element 2: NaN is no JSON value; write null"),
        _row(None, 4, 'row=element 3: expecting \',\' delimiter, at \'ery": "b" "x"}\''),
        _row(None, 5, "row=element 4: the element is a number"),
        _row("c", 6),
        _row(None, 6, 'row=element 6: the JSON ends before the object does: \'{"query": "cu\''),
    ]
    with pytest.raises(Unreadable, match=r"^4 of 6 elements can't be read, the first is element 2: NaN") as caught:
        _elements(data, Options())
    assert (caught.value.line, caught.value.byte) == (3, 18)


def _objects(chance: random.Random) -> list[dict[str, Any]]:
    texts = ["a", 'q"uote', "back\\slash", "tab\t", "line\n", "\u2028", "\u00e9\U0001f600", "", "]},{["]
    kinds = [None, True, 7, 1.5, 1001.0]
    return [
        {name: chance.choice([*texts, *kinds]) for name in ("query", "label", "other") if chance.random() < 0.8}
        for _ in range(chance.randrange(1, 12))
    ]


def _expected(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value).removesuffix(".0")


@pytest.mark.parametrize("seed", range(40))
def test_rows_are_those_that_pythons_reader_sees(seed: int) -> None:
    """Written by Python, with blank lines and indents, a file has the rows and texts that json reads from it."""
    chance = random.Random(seed)
    objects = _objects(chance)
    ascii_only, end = chance.random() < 0.5, chance.choice(["\n", "\r\n", "\n\n"])
    lines = end.join(json.dumps(row, ensure_ascii=ascii_only) for row in objects).encode()
    array = json.dumps(objects, ensure_ascii=ascii_only, indent=chance.choice([None, 0, 2])).encode()
    for rows in (_lines(lines, Options()), _elements(array, Options())):
        assert [row.get("query") for row in rows] == [_expected(row.get("query")) for row in objects]
        assert [row.get("label") for row in rows] == [_expected(row.get("label")) for row in objects]


def _rows_or_none(data: bytes) -> list[dict[str, Any]] | None:
    try:
        return _lines(data)
    except Unreadable:
        return None


@pytest.mark.parametrize("seed", range(200))
def test_damage_loses_nothing_in_silence(seed: int) -> None:
    """A byte is changed, dropped or cut: each line is a row as json reads it or a bad row, or the file is refused."""
    chance = random.Random(seed)
    data = bytearray(b"\n".join(json.dumps(row).encode() for row in _objects(chance)) + b"\n")
    for _ in range(chance.randrange(1, 3)):
        place = chance.randrange(len(data))
        data[place : place + chance.randrange(2)] = chance.choice([b"", b'"', b"\\", b"{", b"}", b",", b"\t", b"N", b"[", b"\n"])
    lines = [line for line in bytes(data).split(b"\n") if line.strip()]
    rows = _rows_or_none(bytes(data))
    if rows is None:
        return
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        bad = (row["unread"] or "").startswith("row=")
        try:
            truth = json.loads(line, parse_constant=lambda _: json.loads("no JSON"))
            json.dumps(truth, ensure_ascii=False).encode()  # json reads half a surrogate pair
        except ValueError:
            truth = None
        assert bad != isinstance(truth, dict) or "are both read as" in str(row["unread"]), line
        if not bad and truth is not None and not isinstance(truth.get("query"), list | dict):
            assert row.get("query") == _expected(truth.get("query"))
