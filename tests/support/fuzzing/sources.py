"""A source: a folder of files as a shop has it, made from a seed, and the rows that are in it."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any, Final

import pyarrow.parquet as pq

from tests.support.fuzzing import forms
from tests.support.fuzzing.damage import FAULTS, Draft
from tests.support.fuzzing.forms import DELIMITED, LEGACY, TEXTUAL, Column, Dialect, Form, Style
from tests.support.fuzzing.rows import LATIN, PHRASES, Row, make_rows

FOLDERS: Final = (
    "shop",
    "shop",
    "shop",
    "shop [prod]",
    "shop?",
    "münchen",
    "shop%20a",
    "a b",
    "shop*",
    "#1",
    "店",
    "Shop.csv.d",
    "it's",
    "shop.csv",
    "logs.jsonl.gz",
)
STEMS: Final = (
    "part-{}", "part-{}", "part-0000{}-c000", "part[{}]", "export ({})", "100%{}", "what?{}", "größe{}", "gro\u0308ße{}",
    "データ{}", " lead{}", "x#{}", "it's{}", 'quo"te{}', "semi;colon{}", "a=b{}", "v1.2.{}", "-dash{}", "back\\slash{}",
    "star*{}", "~tilde{}", "{{a,b}}{}", "emoji👟{}", "a&b{}", "+{}", "[ab]{}", "%5B{}%5D", "x" * 150 + "{}",
)  # fmt: skip
NEIGHBOURS: Final = (
    "_SUCCESS", ".DS_Store", ".part-0.csv.crc", "_committed_123", "notes.txt", "~$export.xlsx", "README.md", "export.csv.tmp",
    "_metadata", "_temporary/0/part-9.csv", ".spark-staging-7/part-9.csv", ".Trash/part-9.csv", "_old/part-9.csv",
    "report.xlsx", "part-9.csv.bak", ".hidden.csv", "_part-9.csv",
)  # fmt: skip
"""What lies beside data and is none: data that was deleted, is not finished, or is no format of logs."""

OWN: Final[dict[str, str]] = {
    "query": "search_term",
    "target": "product_title",
    "label": "relevant",
    "language": "locale",
    "time": "judged",
}
"""Names that no reader can know, by key; the setting `source.columns` maps them."""

KNOWN_AS: Final[dict[str, tuple[str, ...]]] = {
    "task": ("task",),
    "language": ("language", "language", "lang"),
    "query": ("query", "query", "origin_query"),
    "target": ("target",),
    "category_path": ("category_path",),
    "item_title": ("item_title",),
    "label": ("label",),
    "target_id": ("target_id",),
    "time": ("event_time",),
    "weight": ("weight",),
    "id": ("id",),
}


@dataclass(frozen=True)
class Expected:
    """A row that was written: its file, the lines on which it may be said to begin, and what a reader should say.

    touched: a fault changed it, so that it may be named instead; `others` are values that may rightly be said then.
    """

    file: str
    lines: frozenset[int]
    values: Mapping[str, Any]
    touched: bool = False
    others: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """A file of a source."""

    path: str
    form: Form
    data: bytes
    rows: tuple[Expected, ...]
    columns: tuple[Column, ...]
    plain: tuple[Row, ...]
    style: Style
    fault: str = ""


@dataclass(frozen=True)
class Source:
    """A source made from a seed. The same seed makes the same bytes.

    Attributes:
        seed: all that is drawn comes from it.
        scale: most rows of a file, about.
    """

    seed: int
    scale: int = 12

    @cached_property
    def made(self) -> _Made:
        """The files and settings."""
        return _Maker(Random(self.seed), self.scale).make()

    @property
    def files(self) -> tuple[Written, ...]:
        """The files of data."""
        return self.made.files

    @property
    def fault(self) -> str:
        """The kind of fault, "" for an undamaged source."""
        return self.made.fault

    @property
    def told(self) -> Mapping[str, Any]:
        """Settings with which the source is opened at first."""
        return self.made.told

    @property
    def answers(self) -> Mapping[str, Any]:
        """The true value of every setting that a message may ask for."""
        return self.made.answers

    @property
    def neighbours(self) -> Mapping[str, bytes]:
        """Files that are no data of the source, by path."""
        return self.made.neighbours

    @property
    def links(self) -> Mapping[str, str]:
        """Symbolic links → the path that each leads to; "" for one that leads out of the folder."""
        return self.made.links

    @property
    def idle(self) -> Mapping[str, str]:
        """Links to no file of data, or to one that is there under its own name: path → why no row comes from it."""
        return {link: self.made.linked for link in self.links if self.made.linked in {"broken", "twice"}}

    @property
    def alone(self) -> bool:
        """Tells whether the address is that of a single file."""
        return self.made.address == self.files[0].path

    @property
    def main(self) -> Written:
        """The file with the fault, or the first."""
        return next((file for file in self.files if file.fault), self.files[0])

    def standing(self) -> str:
        """What may be asked of a reader of the source.

        Returns:
            `odd` where a file's name can't be a key of an object store, `told` where the settings are given, `setting` where
            nothing in the files tells what they mean, `ambiguous` where they have two readings, else `plain`; `damaged` with a
            fault.
        """
        if self.fault:
            return "damaged"
        if any("\\" in file.path for file in self.files):
            return "odd"
        if self.made.opened:
            return "told"
        if self.made.needed:
            return "setting"
        return "ambiguous" if any(ambiguous(file) for file in self.files) else "plain"

    def write(self, folder: Path) -> str:
        """Writes the source below a folder, and returns its address."""
        root = folder / self.made.folder
        for number, (link, to) in enumerate(self.links.items()):
            (root / link).parent.mkdir(parents=True, exist_ok=True)
            place = root / to if to else folder / "elsewhere" / str(number)
            if not to and self.made.linked == "partition":
                place.mkdir(parents=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            (root / link).symlink_to(place)
        for path, data in {**{file.path: file.data for file in self.files}, **self.neighbours}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return str(root / self.made.address)

    def describe(self) -> str:
        """Returns what the source is, for people."""
        address = str(Path(self.made.folder, self.made.address))
        lines = [f"seed {self.seed}: {self.fault or 'undamaged'}, {self.standing()}; address {address!r}"]
        lines += [f"  settings at first {dict(self.told)}"] if self.told else []
        lines += [f"  settings that would settle it {dict(self.answers)}"] if self.answers else []
        for file in self.files:
            form, touched = file.form, [min(row.lines) for row in file.rows if row.touched]
            kind = f"{form.format} {form.compression} {form.encoding}".replace("  ", " ")
            dialect = f", {form.dialect}, end {form.end!r}" if form.format in DELIMITED else ""
            lines.append(f"  {file.path!r}: {len(file.data)} bytes, {len(file.rows)} rows, {kind}{dialect}")
            lines.append(f"    columns {[column.header for column in file.columns]}")
            if file.fault:
                lines.append(f"    {file.fault}: touches rows of lines {touched[:8]}{' …' if len(touched) > 8 else ''}")
        lines += [f"  beside: {sorted(self.neighbours)}"] if self.neighbours else []
        lines += [f"  links: {dict(self.links)}"] if self.links else []
        return "\n".join(lines)


@dataclass(frozen=True)
class _Made:
    folder: str
    address: str
    files: tuple[Written, ...]
    neighbours: Mapping[str, bytes]
    told: Mapping[str, Any]
    answers: Mapping[str, Any]
    fault: str
    needed: bool
    opened: bool
    links: Mapping[str, str] = field(default_factory=dict)
    linked: str = ""


@dataclass
class _Maker:
    """Draws a source. Every method takes from `random` in a fixed order."""

    random: Random
    scale: int

    def make(self) -> _Made:
        rng = self.random
        self.fault = fault = "" if rng.random() < 0.6 else rng.choice(sorted(FAULTS))
        kind = rng.choice(FAULTS[fault].formats) if fault else rng.choice((*TEXTUAL, "csv", "csv", "tsv", "jsonl", "parquet"))
        self.tasks = rng.choice([("QC",), ("QI",), ("QC", "QI"), ("QC", "QI")])
        form = self._form(kind, fault)
        self.languages = self._languages(form)
        self.style = Style(
            rng.choice(["plain", "plain", "blank", "zone", "zulu", "java"]),
            rng.choice(["whole", "whole", "text", "truth", "float"]),
            rng.choice(["text", "whole"]),
            rng.random() < 0.15,
        )
        self.layout = rng.choice(["file", "flat", "flat", "dt", "dt", "logs/dt", "dt/language", "dt/task", "dt/hour"])
        self.in_path = {"dt/language": "language", "dt/task": "task"}.get(self.layout, "")
        columns, own, no_task = self._columns(fault)
        count = 1 if self.layout == "file" else rng.choice([1, 1, 1, 2, 3])
        files = [
            self._file(number, form if number == 0 else self._other(form), columns, fault if number == 0 else "")
            for number in range(count)
        ]
        made = self._settings(form, files, own, no_task, fault)
        return self._linked(replace(made, files=self._other_case(files)))

    def _other_case(self, files: list[Written]) -> tuple[Written, ...]:
        """Gives the second file, now and then, the first one's name in the other case."""
        if len(files) < 2 or self.random.random() > 0.15:
            return tuple(files)
        first, second = (PurePosixPath(file.path) for file in files[:2])
        stem, ending = first.name.partition(".")[0].swapcase(), second.name.partition(".")[2]
        path = str(second.with_name(f"{stem}.{ending}")) if stem.swapcase() == first.name.partition(".")[0] else str(second)
        if path in {file.path for file in files} or not ending:
            return tuple(files)
        rows = tuple(replace(row, file=path) for row in files[1].rows)
        return (files[0], replace(files[1], path=path, rows=rows), *files[2:])

    def _linked(self, made: _Made) -> _Made:
        """Makes a partition or a file a link, or lays a link that is broken, or leads to a file that is read, beside the files."""
        rng, path = self.random, made.files[-1].path
        kind = rng.choice(["partition", "file", "broken", "twice"]) if rng.random() < 0.15 else ""
        day = path[: path.index("dt=") + len("dt=2026-10-14")] if "dt=" in path else ""
        if not kind or (kind == "partition" and not day) or (made.address == path and kind != "file"):
            return made
        beside = str(PurePosixPath(path).with_name(f"link-to-it.{PurePosixPath(path).name.partition('.')[2] or 'csv'}"))
        links = {"partition": {day: ""}, "file": {path: ""}, "broken": {beside: "nothing.csv"}, "twice": {beside: path}}[kind]
        return replace(made, links=links, linked=kind)

    def _form(self, kind: str, fault: str) -> Form:
        rng = self.random
        encoding = "" if kind == "parquet" else "utf-8"
        plain = fault in {"byte that is no UTF-8", "cut Parquet"}
        if kind != "parquet" and not plain:
            rare = rng.choice(sorted(forms.ENCODINGS))
            encoding = "utf-8" if rng.random() < 0.55 or (rare in LEGACY and kind not in DELIMITED and rng.random() < 0.7) else rare
        compression = "" if kind == "parquet" or rng.random() < 0.75 else rng.choice(["gz", "gz", "zst"])
        if fault == "cut gzip or zstd":
            compression = compression or "gz"
        dialect = self._dialect(kind, fault) if kind in DELIMITED else Dialect()
        end = rng.choice(["\n", "\n", "\n", "\r\n", "\r\n", "\r"]) if kind in DELIMITED else rng.choice(["\n", "\n", "\n", "\r\n"])
        return Form(kind, compression, encoding, end, dialect, rng.random() < 0.5, rng.random() < 0.3, rng.random() < 0.8)

    def _dialect(self, kind: str, fault: str) -> Dialect:
        rng = self.random
        delimiter = "\t" if kind == "tsv" else rng.choice([",", ",", ",", ";", ";", "\t", "|"])
        quote = rng.choice(['"'] * 12 + ["'", ""]) if not fault else '"'
        quoting = rng.choice(["minimal", "minimal", "all", "nonnumeric"])
        escape = "backslash" if quote == '"' and rng.random() < 0.2 and "quote" not in fault else "double"
        sep = kind == "csv" and rng.random() < 0.06
        blanks = rng.choice(["", "", "", "", "blank", "delimiters", "both"]) if not fault else ""
        return Dialect(delimiter, quote, quoting, escape, sep, blanks, escape == "backslash" and rng.random() < 0.5)

    def _other(self, form: Form) -> Form:
        """The form of another file of the source: the same, or one that tells its own."""
        rng = self.random
        if form.encoding in LEGACY or form.dialect.quote != '"' or rng.random() < 0.6:
            return form
        other = self._form(rng.choice(["csv", "jsonl", "parquet", "tsv", "json"]), "")
        if form.format in DELIMITED:  # but for its delimiter, a source has one dialect: one setting has to do
            other = replace(other, dialect=replace(form.dialect, delimiter=other.dialect.delimiter, sep=False))
        return replace(
            other, encoding="utf-8" if other.encoding in LEGACY else other.encoding, dialect=replace(other.dialect, quote='"')
        )

    def _languages(self, form: Form) -> tuple[str, ...]:
        rng, home = (
            self.random,
            {"cp1252": LATIN, "latin-1": ("en", "de", "es", "pt"), "shift_jis": ("ja", "en"), "gb18030": ("zh", "en")},
        )
        known = home.get(form.encoding) or tuple(PHRASES)
        return tuple(rng.sample(known, min(len(known), rng.randrange(1, 5))))

    def _columns(self, fault: str) -> tuple[list[Column], dict[str, str], bool]:
        """Returns the columns, the source's own names of them, and whether the task is left out for a setting to give."""
        rng = self.random
        own_keys = rng.sample(sorted(OWN), rng.randrange(1, 3)) if not fault and rng.random() < 0.07 else []
        if self.tasks == ("QC", "QI"):
            target = rng.choice([["target"], ["target"], ["category_path", "item_title"]])
        else:
            target = rng.choice([["target"], ["category_path"] if self.tasks == ("QC",) else ["item_title"]])
        no_task = not fault and len(self.tasks) == 1 and self.in_path != "task" and rng.random() < 0.08
        keys = ["task", "language", "query", *target, "label"]
        keys = [key for key in keys if key != self.in_path and not (key == "task" and no_task)]
        keys += [key for key, share in (("time", 0.75), ("target_id", 0.5)) if rng.random() < share]
        extras = rng.sample(["position", "price", "comment", "tags", "meta"], rng.choice([0, 0, 1, 2, 3]))
        if rng.random() < 0.4:
            rng.shuffle(keys)
        for extra in extras:
            keys.insert(rng.randrange(len(keys) + 1), extra)
        cases: list[Callable[[str], str]] = [str, str, str, str.upper, str.capitalize, lambda name: f" {name} "]
        case = rng.choice(cases)
        names = {key: OWN[key] if key in own_keys else rng.choice(KNOWN_AS.get(key, (key,))) for key in keys}
        own = {names[key]: rng.choice(KNOWN_AS[key]) for key in keys if key in own_keys}
        return [Column(case(names[key]) if key in KNOWN_AS else names[key], key) for key in keys], own, no_task

    def _file(self, number: int, form: Form, columns: Sequence[Column], fault: str) -> Written:
        rng = self.random
        kind = FAULTS.get(fault)
        sizes = [3, 5, 8, self.scale, 2 * self.scale]
        count = rng.choice(sizes if fault else [*sizes, 0, 1, 1])
        if not fault and rng.random() < 0.004:
            count = 120 * self.scale
        tasks, languages, folder = self.tasks, self.languages, self._folder()
        if self.in_path == "language":
            languages = (folder.rpartition("=")[2].rstrip("/"),)
        elif self.in_path == "task":
            tasks = (folder.rpartition("=")[2].rstrip("/"),)
        made = make_rows(rng, count, tasks, languages, form.fits, long=rng.random() < 0.02)
        made = [
            replace(row, number=1000 * number + row.number, query=_again(row.query, number), target=_again(row.target, number))
            for row in made
        ]
        left_out = {"tags", "meta"} if form.format in DELIMITED else set()
        left_out |= {"comment"} if not form.dialect.quote else set()
        names = [column for column in columns if column.key not in left_out]
        draft = Draft(form, names, made, self.style)
        if kind and kind.early:
            kind.apply(rng, draft)
        lines = self._fill(draft, fault)
        stem = rng.choice(STEMS).format(number)
        stem = stem.replace("\\", "") if self.fault else stem
        path = f"{folder}{stem}.{self._ending(draft)}"
        kept = {name for column in draft.columns for name in (column.key,)}
        expected = tuple(
            Expected(
                path,
                lines.get(index, frozenset([index + 1])),
                row.values(time="time" in kept, target_id="target_id" in kept),
                index in draft.touched,
                draft.others.get(index, {}),
            )
            for index, row in enumerate(made)
            if index not in draft.gone
        )
        return Written(path, form, draft.data, expected, tuple(draft.columns), tuple(made), self.style, fault)

    def _fill(self, draft: Draft, fault: str) -> dict[int, frozenset[int]]:
        """Writes a draft's bytes, with its fault; returns the lines of its rows."""
        rng, form, kind = self.random, draft.form, FAULTS.get(fault)
        lines: dict[int, frozenset[int]] = {}
        if form.format == "parquet":
            draft.data = forms.parquet(draft.columns, draft.rows, draft.style, rng)
        else:
            draft.pieces = forms.WRITERS[form.format](form, draft.columns, draft.rows, draft.style, rng)
            if kind and not kind.packed and not kind.early:
                kind.apply(rng, draft)
            data, lines = forms.assemble(form, draft.pieces)
            draft.data = forms.compress(data, form.compression, rng)
        if kind and not kind.early and (kind.packed or form.format == "parquet"):
            kind.apply(rng, draft)
        return lines

    def _folder(self) -> str:
        rng = self.random
        day = "dt=2026-10-14/"
        return {
            "dt": day,
            "logs/dt": f"logs/{day}",
            "dt/language": f"{day}language={rng.choice(self.languages)}/",
            "dt/task": f"{day}task={rng.choice(self.tasks)}/",
            "dt/hour": f"{day}hour={rng.randrange(24):02d}/",
        }.get(self.layout, "")

    def _ending(self, draft: Draft) -> str:
        rng, form = self.random, draft.form
        ending = draft.ending or f"{form.format}{'.' if form.compression else ''}{form.compression}"
        if draft.ending and form.compression and draft.ending in {*TEXTUAL, "parquet"} and draft.ending != form.format:
            ending = f"{draft.ending}.{form.compression}"
        return ending.upper() if rng.random() < 0.1 else ending

    def _settings(self, form: Form, files: list[Written], own: dict[str, str], no_task: bool, fault: str) -> _Made:
        rng, dialect = self.random, next((file.form.dialect for file in files if file.form.format in DELIMITED), form.dialect)
        answers: dict[str, Any] = {}
        if form.encoding:
            answers["source.encoding"] = form.encoding.partition(" ")[0]
        if any(file.form.format in DELIMITED for file in files):
            answers |= {
                "source.csv.delimiter": "tab" if dialect.delimiter == "\t" else dialect.delimiter,
                "source.csv.quote": {'"': "double", "'": "single", "": "none"}[dialect.quote],
                "source.csv.escape": dialect.escape,
            }
        needed = {name for name, yes in (("source.columns", own), ("source.task", no_task)) if yes}
        if form.encoding in LEGACY and any(not file.data.isascii() or form.compression for file in files):
            needed.add("source.encoding")
        answers |= {"source.columns": own} if own else {}
        answers |= {"source.task": self.tasks[0]} if no_task else {}
        must = {name for name in ("source.csv.quote",) if dialect.quote != '"'} | {
            "source.encoding" for file in files if _mistaken(file)
        }
        opened = bool(must) or (not fault and len(files) == 1 and rng.random() < 0.08)
        must |= {"source.encoding"} if fault and form.encoding in LEGACY else set()
        told = {name: value for name, value in answers.items() if name in must or opened}
        told |= {"source.bad_rows": "quarantine"} if rng.random() < (0.7 if fault else 0.3) else {}
        folder = rng.choice(FOLDERS)
        address = {"file": files[0].path, "logs/dt": rng.choice(["", "logs"])}.get(self.layout, "")
        return _Made(folder, address, tuple(files), self._beside(files[0].path), told, answers, fault, bool(needed), opened)

    def _beside(self, path: str) -> dict[str, bytes]:
        rng = self.random
        if rng.random() < 0.6:
            return {}
        line = b"task,language,query,target,label,event_time\nQC,en,deleted,never,1,2026-10-14T09:00:00\n"
        folder = path.rpartition("/")[0]
        return {
            f"{folder}/{name}".lstrip("/"): line if "part-9" in name or name == ".hidden.csv" else b"x\n"
            for name in rng.sample(NEIGHBOURS, rng.randrange(1, 4))
        }


def _again(text: str | None, number: int) -> str | None:
    """Makes a text of the second file another than that of the first."""
    return f"{text} f{number}" if text and number else text


def _mistaken(file: Written) -> bool:
    """Tells whether a legacy encoding's bytes are UTF-8 too, and mean something else."""
    if file.form.encoding not in LEGACY:
        return False
    try:
        data = forms.decompress(file.data, file.form.compression)
        return data.decode("utf-8") != data.decode(file.form.encoding)
    except (UnicodeError, OSError, EOFError):
        return False


def ambiguous(file: Written) -> bool:
    """Tells whether both ways of escaping a quote make a whole table of a delimited file, with other values."""
    if file.form.format not in DELIMITED or not file.form.dialect.quote:
        return False
    text = _text(file)
    readings = [_strictly(text, file.form.dialect, escape) for escape in ("double", "backslash")]
    return all(readings) and readings[0] != readings[1]


def _text(file: Written) -> str:
    codec, mark = forms.ENCODINGS[file.form.encoding]
    text = forms.decompress(file.data, file.form.compression)[len(mark) :].decode(codec)
    return text.partition(file.form.end)[2] if file.form.format in DELIMITED and file.form.dialect.sep else text


def _strictly(text: str, dialect: Dialect, escape: str) -> list[list[str]]:
    """Returns the records of a table, none where it is not whole. Blank lines and lines of delimiters are no records."""
    how: dict[str, Any] = {"quotechar": dialect.quote} if dialect.quote else {"quoting": csv.QUOTE_NONE}
    try:
        if escape == "backslash":
            records = _backslashed(text, dialect)
        else:
            records = list(csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter, strict=True, **how))
    except csv.Error:
        return []
    found = [record for record in records if any(record)]
    return found if len({len(record) for record in found}) == 1 else []


def _backslashed(text: str, dialect: Dialect) -> list[list[str]]:
    """Reads as Spark does: a backslash escapes a quote or a backslash, in a quoted value only. Raises csv.Error."""
    quote, split = re.escape(dialect.quote), re.escape(dialect.delimiter)
    value = re.compile(rf"{quote}((?:[^{quote}\\]|\\.)*){quote}|([^{split}\r\n]*)", re.DOTALL)
    records, record, at = [], [], 0
    while True:
        found = value.match(text, at)
        assert found is not None
        record.append(found[2] if found[1] is None else re.sub(rf"\\([{quote}\\])", r"\1", found[1]))
        at = found.end()
        if text.startswith(dialect.delimiter, at):
            at += 1
            continue
        records.append(record)
        record = []
        if at == len(text):
            return records
        if text[at] not in "\r\n" or (found[1] is None and dialect.quote in found[2][:1]):
            raise csv.Error("text after a closing quote")
        at += 2 if text.startswith("\r\n", at) else 1


def confirm(source: Source) -> list[str]:
    """Reads every file of an undamaged source by csv, json or pyarrow, told its true form; returns where they see other rows."""
    return [f"{file.path}: {wrong}" for file in source.files if not file.fault for wrong in _confirm(file)]


def records(file: Written) -> list[dict[str, Any]]:
    """Reads an undamaged file by csv, json or pyarrow, told its true form. Raises ValueError for another header."""
    names = [column.header for column in file.columns]
    if file.form.format == "parquet":
        rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(file.data)).to_pylist()
        return rows
    text = _text(file)
    if file.form.format in DELIMITED:
        header, *found = _strictly(text, file.form.dialect, file.form.dialect.escape) or [[]]
        if header != names:
            raise ValueError(f"the header is {header}")
        return [dict(zip(names, record, strict=True)) for record in found]
    objects = json.loads(text) if file.form.format == "json" else [json.loads(line) for line in text.split("\n") if line.strip()]
    return [{name: row.get(name) for name in names} for row in objects]


def _confirm(file: Written) -> list[str]:
    try:
        found = records(file)
    except ValueError as error:
        return [str(error)]
    wanted = [{column.header: file.style.render(row, column.key) for column in file.columns} for row in file.plain]
    if file.form.format == "parquet":
        return _compared([_plain(row) for row in wanted], [_plain(row) for row in found])
    if file.form.format in DELIMITED:
        wanted = [{name: forms.as_text(value) for name, value in row.items()} for row in wanted]
    return _compared(wanted, found)


def _plain(row: Mapping[str, Any]) -> dict[str, str]:
    """Values that types of columns change: whole numbers, moments."""
    return {name: "" if value is None else _same(value) for name, value in row.items()}


def _same(value: Any) -> str:
    if isinstance(value, float | int):
        return str(float(value))
    with contextlib.suppress(ValueError):
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    return str(value)


def _compared(wanted: Sequence[Any], found: Sequence[Any]) -> list[str]:
    if len(wanted) != len(found):
        return [f"{len(found)} rows, {len(wanted)} were written"]
    return [
        f"row {at}: {one!r}, written {other!r}"
        for at, (other, one) in enumerate(zip(wanted, found, strict=True), 1)
        if one != other
    ][:3]
