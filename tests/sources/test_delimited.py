"""Delimited text: dialects that are found, rows that are named, and no row that is lost."""

from __future__ import annotations

import csv
import io
import random
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pytest
from pyarrow import csv as arrow

from relevance_core.sources import delimited
from relevance_core.sources.delimited import read_companion, read_delimited
from relevance_core.sources.reading import LINE, UNREAD, Form, Options, Reading, Unreadable

HEADER = ["task", "language", "query", "target", "label", "source_id"]
Row = tuple[str | None, ...]
OTHER = "; set source.encoding if the file has another encoding"


def read(text: str | bytes, *, tab: bool = False, **settings: Any) -> Reading:
    return read_delimited(text.encode() if isinstance(text, str) else text, Options(**settings), tab=tab)


def rows(text: str | bytes, **settings: Any) -> list[Row]:
    return read(text, **settings).rows.rows()


def refused(text: str | bytes, **settings: Any) -> Unreadable:
    with pytest.raises(Unreadable) as caught:
        read(text, **settings)
    return caught.value


@pytest.fixture(params=["exact", "fast"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of reading: row by row, and behind a proof of the dialect."""
    monkeypatch.setattr(delimited, "SMALL", 1 << 30 if request.param == "exact" else 0)
    return str(request.param)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_header_tells_the_delimiter(reader: str, delimiter: str, end: str) -> None:
    """Names are known in any case; values are text, an empty value is null, and a line is counted by its end."""
    lines = (("Task", " QUERY", "shop", "label"), ("QC", "a", "x", "1"), ("", "007", "", ""), ("QI", '""', "", "0"))
    found = read(end.join(delimiter.join(line) for line in lines))
    assert found.form == Form("csv", "", "utf-8", delimiter, "")
    assert found.ignored == ("shop",)
    assert found.rows.columns == ["task", "query", "label", LINE, UNREAD]
    assert found.rows.schema[LINE] == pl.Int64
    assert found.rows.rows() == [("QC", "a", "1", 2, None), (None, "007", None, 3, None), ("QI", None, "0", 4, None)]


def test_settings_name_columns_and_delimiter() -> None:
    """Own names count for the choice; a delimiter may be any character, and is taken even where another would fit."""
    assert rows("wort§ok\na§1\n", delimiter="§", columns={"Wort": "query", "ok": "label"}) == [("a", "1", 2, None)]
    assert rows("suche;x,y\na;1,2\n", columns={"suche": "query"}) == [("a", 2, None)]
    assert read("query,label\na,1\n", delimiter="tab").ignored == ("query,label",)


def test_two_delimiters_that_fit_are_refused() -> None:
    """`task;language,query` has one known name with either; in a .tsv the tab comes first."""
    error = refused("task;language,query\n1;2,3\n")
    assert "a comma and with a semicolon" in error.what
    assert error.do == "set source.csv.delimiter"
    assert rows("task\tx,query\nQC\t1\n", tab=True) == [("QC", 2, None)]


def test_rows_without_a_known_column_are_counted() -> None:
    """The delimiter that occurs most divides them; none of them stops the run, because the missing columns do."""
    found = read("Sprache;Anfrage\nde;schuh\nde\n\n;;\nen;shoe\n")
    assert found.form.delimiter == ";"
    assert found.ignored == ("Sprache", "Anfrage")
    assert found.rows[LINE].to_list() == [2, 3, 6]
    assert found.rows.columns == [LINE, UNREAD]


@pytest.mark.parametrize("text", ["", "\n\r\n", ";;;\n,,\n", "sep=;", "\ufeff"])
def test_a_text_of_nothing_has_no_rows(text: str) -> None:
    """An empty file, blank lines and lines of delimiters are no header."""
    assert read(text).rows.shape == (0, 2)


def test_lines_of_nothing_are_no_rows(reader: str) -> None:
    """Blank lines, and the lines of delimiters that Excel leaves below the data, are passed over; places stay those of the file."""
    found = rows('sep=;\n\ntask;query\n\nQC;a\n;\n   \n"QC";"b"\n;\n;\n\n')
    assert found == [("QC", "a", 5, None), ("QC", "b", 8, None)]


def test_quotes_are_those_of_rfc_4180(reader: str) -> None:
    """Delimiters, line ends and doubled quotes are text between quotes; a quote inside a bare value is text."""
    found = read('task,query,label\nQC,"a, ""b""\r\nc",1\nQC,"""",0\nQC,"",0\n')
    assert found.form.escape == "double"
    assert [row[1:4] for row in found.rows.rows()] == [('a, "b"\r\nc', "1", 2), ('"', "0", 4), (None, "0", 5)]
    assert rows('task,query\nQC,12" pan\nQC,a""\n') == [("QC", '12" pan', 2, None), ("QC", 'a""', 3, None)]
    assert rows("task,query\nQC,'a, b'\nQC,'it''s'\n", quote="single") == [("QC", "a, b", 2, None), ("QC", "it's", 3, None)]
    assert rows('task,query\nQC,"12 pan\nQC,"a"\n', quote="none") == [("QC", '"12 pan', 2, None), ("QC", '"a"', 3, None)]


BAD = [
    ("QC,a", "2 values, the header has 3", "fields"),
    ("QC,a,1,2", "4 values, the header has 3", "fields"),
    ('QC,"a" b,1', "value 2 begins with a quote, and its closing quote stands before ' b,1", "quote"),
    ('QC,"a,1', "value 2 begins with a quote that is never closed", "quote"),
    ('QC, "a",1', "value 2 has white space before its quotes", "quote"),
    ("task,query,label", "the header once more", "header"),
    ('QC,"a,1\nQC,b",0', "runs over lines 3 to 4, each of which is a row if quotes are text", "quote"),
]


@pytest.mark.parametrize(("line", "why", "setting"), BAD)
def test_a_bad_row_is_named(reader: str, line: str, why: str, setting: str) -> None:
    """The run stops at its line; with the quarantine on it is a row of nulls that says why, and the others are read."""
    text = f"task,query,label\nQC,x,1\n{line}\nQC,y,0\n"
    error = refused(text)
    assert error.line == 3
    assert error.what.startswith(why) or why in error.what
    assert "source.bad_rows" in error.do
    assert ("source.csv.quote" in error.do) == (setting != "header")
    found = rows(text, bad_rows="quarantine")
    assert [row for row in found if row[-1] is None] == [("QC", "x", "1", 2, None), ("QC", "y", "0", 4 + line.count("\n"), None)]
    assert [(row[:4], why in str(row[-1])) for row in found if row[-1]] == [((None, None, None, 3), True)]


def test_the_number_of_bad_rows_is_told() -> None:
    """The first is named, with how many there are besides."""
    assert (
        refused("task,query,label\nQC,a\nQC,b,1\nQC,c,d,1\nQC,e\n").what == "2 values, the header has 3; 2 more rows can't be read"
    )


def test_a_line_end_inside_a_value_spoils_what_it_cut() -> None:
    """The end of a last value stands on a line of its own: the row above has a part of it, the row below perhaps a part too."""
    found = rows("task,query,label\nQC,a,1\nQC,b,0\n0\nQC,c,1\nQC,d,1\n", bad_rows="quarantine")
    assert [(row[1], row[3], row[4]) for row in found] == [
        ("a", 2, None),
        (None, 3, "row=line 4 may be the end of this row's last value"),
        (None, 4, "row=1 value, the header has 3"),
        (None, 5, "row=line 4 may be the begin of this row's first value"),
        ("d", 6, None),
    ]


def test_a_carriage_return_alone_in_a_file_of_line_feeds_is_not_guessed(reader: str) -> None:
    """It ends a line or is text; between two whole rows it can only be an end."""
    found = rows("task,query,label\nQC,a,1\nQC,b,0\rQC,c,1\nQC,d,1\re,0\nQC,f,1\n", bad_rows="quarantine")
    assert [row[1] for row in found] == ["a", "b", "c", None, None, "f"]


def test_a_whole_row_inside_a_value_is_not_guessed(reader: str) -> None:
    """A stray quote that the next quoted value closes would swallow the rows between: the record is named instead."""
    text = 'task,query,target,label\nQC,a,b,"1\nQC,c,d,0\nQC,e,f,,1"\nQC,g,h,1\n'
    assert "a whole row is among them" in refused(text).what
    assert [row[1] for row in rows(text, bad_rows="quarantine")] == [None, "g"]
    whole = 'task,query,target,label\nQC,"a\nb",c,"1\n2"\nQC,"a\nb, c, d\ne",f,1\n'
    assert [row[1] for row in rows(whole)] == ["a\nb", "a\nb, c, d\ne"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('x,"12 pan,1', 'y,pan 14",0'),
        ('"x, z","12 pan,1', 'y,pan 14",0'),
        ('"12 pan,x,1', 'pan 14","y, z",0'),
        ('"x\nz","12 pan,1', 'y,pan 14",0'),
    ],
)
def test_two_rows_that_a_quote_makes_one_are_both_named(reader: str, first: str, second: str) -> None:
    """Also where another value of a row has quotes with a delimiter between them: the note tells both lines."""
    found = rows(f"task,query,target,label\nQC,a,b,1\nQC,{first}\nQC,{second}\nQC,c,d,1\n", bad_rows="quarantine")
    assert [(row[1], row[4]) for row in found if row[5] is None] == [("a", 2), ("c", 5 + first.count("\n"))]
    assert f"lines 3 to {4 + first.count(chr(10))}" in str(found[1][5])


SPARK = 'task,query,target\nQC,"pan 12\\"",pans\nQC,"a\\\\, \\"b\\"",c\n'


def test_backslashes_of_spark_are_found(reader: str) -> None:
    """With doubled quotes the two rows would be one; with backslashes both are whole, and a pair of backslashes is one."""
    found = read(SPARK)
    assert found.form.escape == "backslash"
    assert found.rows.rows() == [("QC", 'pan 12"', "pans", 2, None), ("QC", 'a\\, "b"', "c", 3, None)]
    assert rows(SPARK, escape="backslash") == found.rows.rows()
    assert "source.csv.quote" in refused(SPARK, escape="double").do


@pytest.mark.parametrize("value", ['12\\" pan', '"C:\\\\new, old"'])
def test_a_backslash_with_two_meanings_is_refused(reader: str, value: str) -> None:
    """Both readings have every row and other texts: the setting decides."""
    text = f"task,query\nQC,x\nQC,{value}\n"
    error = refused(text)
    assert (error.line, error.do) == (3, "set source.csv.escape to double or backslash")
    assert rows(text, escape="double")[1][1] == value.strip('"')
    assert rows(text, escape="backslash")[1][1] == value.strip('"').replace('\\"', '"').replace("\\\\", "\\")


def test_a_byte_that_is_no_text_costs_its_line() -> None:
    """A row in cp1252 among rows in UTF-8 goes to quarantine by name; a header in cp1252 can't."""
    text = "task,query\nQC,schön\n".encode("cp1252") + "QC,schön\n".encode()
    assert (refused(text).line, refused(text).byte) == (2, 17)
    assert rows(text, bad_rows="quarantine") == [(None, None, 2, f"row=0xF6 is no utf-8{OTHER}"), ("QC", "schön", 3, None)]
    assert rows(text.splitlines(keepends=True)[0] + text.splitlines()[1], encoding="cp1252") == [("QC", "schön", 2, None)]
    assert "header" in refused("task,qüery\nQC,a\n".encode("cp1252"), bad_rows="quarantine").expected


def test_a_file_of_another_encoding_is_refused_as_a_whole() -> None:
    """Three of four lines beyond ASCII are an encoding rather than damage; `utf-8` as a setting leaves them out."""
    bad, good = "QC,schön\n".encode("cp1252"), "QC,schön\n".encode()
    text = b"task,query\nQC,a\n" + 3 * bad + good
    error = refused(text, bad_rows="quarantine")
    assert (error.line, "3 of the 4 lines" in error.what, "source.encoding" in error.do) == (3, True, True)
    assert [row[1] for row in rows(text, bad_rows="quarantine", encoding="utf-8")] == ["a", None, None, None, "schön"]
    assert [row[1] for row in rows(text + 2 * good, bad_rows="quarantine")] == ["a", None, None, None, *["schön"] * 3]


@pytest.mark.parametrize("line", ["query,task,label", "QUERY,Task, label", "task,lang,query,target,label", "task,lang,label"])
def test_the_header_of_another_table_ends_the_reading(reader: str, line: str) -> None:
    """Rows below names in another order, or below other names, have no certain meaning: neither setting of bad rows goes on."""
    for bad_rows in ("stop", "quarantine"):
        error = refused(f"task,query,label\nQC,label,1\n{line}\na,QC,0\n", bad_rows=bad_rows)
        assert (error.line, line.split(",")[0] in error.what) == (3, True)


def test_a_header_once_more_costs_its_line(reader: str) -> None:
    """The rows below it are those of the same columns, whatever the case of their names; a row may stand before it on its line."""
    text = "task,query,label\nQC,a,1\nTask,Query,Label\nQC,b,1\nQC,c,1task,query,label\nQC,d,0\n"
    found = rows(text, bad_rows="quarantine")
    assert [(row[1], row[3]) for row in found] == [("a", 2), (None, 3), ("b", 4), (None, 5), ("d", 6)]
    assert [row[4] for row in found if row[4]] == ["row=the header once more", "row=a row and the header once more on one line"]


def test_json_that_is_named_as_a_table_is_refused() -> None:
    """An array on one line is a header without a known name and no row, which would pass for an empty file."""
    for text in ('[{"task": "QC", "query": "a"}]', '{"task": "QC"}\n{"task": "QI"}\n'):
        assert (refused(text).line, ".json" in refused(text).do) == (1, True)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_most_of_them_end(reader: str, end: str) -> None:
    """A line end inside a value counts where it holds the character in which most lines end."""
    text = end.join(["task,query", 'QC,"a\r\nb"', "QC,c", "QC,d", ""])
    assert [row[2] for row in rows(text)] == [2, 4, 5]


def test_columns_of_one_name_are_refused() -> None:
    """`query` and `Query` are both the query; the setting leaves one out."""
    assert "source.columns" in refused("query,Query\na,b\n").do


def test_a_companion_is_quoted_as_excel_does_it_or_not_at_all() -> None:
    """Where a value has quotes around it, quotes must be right; where none has, they are text."""
    assert read_companion(b'id\tname\n1\t"12"" pan"\n2\ta\n') == (["id", "name"], [(2, ["1", '12" pan']), (3, ["2", "a"])])
    assert read_companion(b'id\tname\n1\t"pan\n2\t12" pan\n')[1] == [(2, ["1", '"pan']), (3, ["2", '12" pan'])]
    assert read_companion(b'id\tname\n1\t"a"\n', quoted=False)[1] == [(2, ["1", '"a"'])]
    with pytest.raises(Unreadable, match="never closed") as caught:
        read_companion(b'id\tname\n1\t"12"" pan"\n2\t"x\n')
    assert caught.value.line == 3
    assert read_companion(b"\n") == ([], [])


# Generated text

Style = Literal["minimal", "all", "nonnumeric", "arrow", "spark", "bare"]
STYLES: list[Style] = ["minimal", "all", "nonnumeric", "arrow", "spark", "bare"]
QUOTING = {"minimal": csv.QUOTE_MINIMAL, "all": csv.QUOTE_ALL, "nonnumeric": csv.QUOTE_NONNUMERIC}


class Written:
    """Rows and their text in a dialect, by Python's csv, by Arrow, or by hand for Spark's and for text without quotes."""

    def __init__(self, seed: int, style: Style) -> None:
        self.rng, self.style = random.Random(seed), style
        self.delimiter, self.end = self.rng.choice(",;\t|"), self.rng.choice(["\n", "\r\n", "\r"])
        special = ['"', "' "] if style == "bare" else ['"', "'", ",", ";", self.delimiter, "\\"]
        if style != "bare" and not (style == "minimal" and self.end == "\r"):  # csv leaves a line feed without quotes there
            special.append("\n")
        self.rows = [self._row(number, special) for number in range(self.rng.randint(1, 8))]
        self.text = self._text()

    def _row(self, number: int, special: list[str]) -> list[str]:
        letters = ["a", "b", "ü", "鞋", " ", "12", "-", *special]
        texts = ["".join(self.rng.choices(letters, k=self.rng.randint(0, 6))) for _ in range(2)]
        texts = [text.strip(' "') if self.style == "bare" else text for text in texts]
        return ["QC", self.rng.choice(["en", "de"]), *texts, self.rng.choice("01"), f"s{number}"]

    def _text(self) -> str:
        if self.style == "arrow":
            self.end = "\n"
            sink = io.BytesIO()
            table = pa.table({name: [row[at] for row in self.rows] for at, name in enumerate(HEADER)})
            options = arrow.WriteOptions(delimiter=self.delimiter, quoting_style=self.rng.choice(["needed", "all_valid"]))
            arrow.write_csv(table, sink, options)
            return sink.getvalue().decode()
        if self.style in ("spark", "bare"):
            return "".join(self.delimiter.join(map(self._spark, row)) + self.end for row in [HEADER, *self.rows])
        out = io.StringIO()
        writer = csv.writer(out, delimiter=self.delimiter, lineterminator=self.end, quoting=QUOTING[self.style])
        writer.writerows([HEADER, *self.rows])
        return out.getvalue()

    def _spark(self, value: str) -> str:
        if self.style == "spark" and any(mark in value for mark in ('"', self.delimiter, "\n")):
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return value

    def settings(self) -> dict[str, Any]:
        return {
            "delimiter": "tab" if self.delimiter == "\t" else self.delimiter,
            "escape": "backslash" if self.style == "spark" else "double",
        }

    def damaged(self) -> bytes:
        """The text with a byte behind the header changed, taken out or put in."""
        data = bytearray(self.text.encode())
        at = self.rng.randrange(len(self.text.split(self.end)[0].encode()) + 1, len(data))
        byte = self.rng.choice([*b'",;\t|\n\rxQ1 \\', 0xFC, 0])
        data[at : at + self.rng.choice([0, 1])] = self.rng.choice([b"", bytes([byte])])
        return bytes(data)


def values(frame: pl.DataFrame) -> list[list[str]]:
    return [[value or "" for value in row] for row in frame.select(HEADER).rows()]


@pytest.mark.parametrize("style", STYLES)
def test_what_was_written_is_read(reader: str, style: Style) -> None:
    """Without a setting each text gives the rows that were written, or names the setting with which it does."""
    asked = 0
    for seed in range(150):
        written = Written(seed, style)
        data = written.text.encode(written.rng.choice(["utf-8", "utf-8-sig", "utf-16"]))
        try:
            found = read(data, tab=written.delimiter == "\t")
        except Unreadable as error:
            asked += 1
            if "a quoted value runs over" in error.what:
                continue
            found = read(data, escape=written.settings()["escape"])
        assert values(found.rows) == written.rows, (seed, written.text)
        assert found.form.delimiter == written.delimiter
    assert asked <= 15


@pytest.mark.parametrize("style", [style for style in STYLES if style != "spark"])
def test_no_damage_loses_a_row_in_silence(reader: str, style: Style) -> None:
    """After a byte was changed the text is refused, or gives the rows that Python's csv sees, told the dialect."""
    for seed in range(300):
        written = Written(seed, style)
        data = written.damaged()
        try:
            found = read(data, **written.settings())
        except Unreadable:
            continue
        seen = csv.reader(io.StringIO(data.decode(), newline=""), delimiter=written.delimiter)
        assert values(found.rows) == [row for row in list(seen)[1:] if "".join(row).strip()], (seed, data)


@pytest.mark.parametrize("style", STYLES)
def test_damage_costs_the_rows_that_it_touches(reader: str, style: Style) -> None:
    """With the quarantine on, at most a row has another text, and rows are missing only where bad ones stand for them."""
    for seed in range(300):
        written = Written(seed, style)
        data = written.damaged()
        frame = read(data, bad_rows="quarantine", **written.settings()).rows
        kept = values(frame.filter(pl.col(UNREAD).is_null()))
        bad = frame.height - len(kept)
        changed = [row for row in kept if row not in written.rows]
        lost = [row for row in written.rows if row not in kept]
        assert len(changed) <= 1, (seed, data)
        assert len(lost) <= len(changed) + bad + (bad > 0), (seed, data)
        assert frame.filter(pl.col(UNREAD).is_not_null()).select(HEADER).null_count().sum_horizontal().sum() == 6 * bad
