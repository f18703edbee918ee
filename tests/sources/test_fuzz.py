"""Random sources: every row that was written is read as it was, or named; and the judgement itself, by readers that are known."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.support.fuzzing import product, tally
from tests.support.fuzzing.damage import FAULTS
from tests.support.fuzzing.honest import changed, honest, without
from tests.support.fuzzing.product import Said
from tests.support.fuzzing.sources import Source, confirm
from tests.support.fuzzing.verdict import Verdict, judge

SEEDS = range(0, 10_000, 20)
"""500 of the 10,000 seeds of `make prove WHAT=door`."""
CHUNK = 50


@functools.cache
def results(at: int) -> list[tally.Result]:
    """What came of a chunk's seeds."""
    return [tally.run(seed) for seed in SEEDS[at : at + CHUNK]]


def told(result: tally.Result) -> str:
    """A failure, and how to see it again."""
    kind = f"{result['fault'] or result['standing']}, {result['format']} {result['encoding']} {result['dialect']}"
    return f"python -m tests.support.fuzzing replay {result['seed']}   # {kind}: {result['outcome']}: {result['detail']}"


@pytest.mark.parametrize("at", range(0, len(SEEDS), CHUNK))
def test_no_row_is_lost_doubled_or_changed_without_a_word(at: int) -> None:
    """Undamaged sources are read whole, or once the setting that a message names is given; lost rows of damaged ones are named."""
    wrong = [told(result) for result in results(at) if not result["right"]]
    assert not wrong, "\n".join(wrong)


def test_sources_are_read_without_a_setting_and_beside_a_bad_line() -> None:
    """99 % of the undamaged sources in a documented dialect need no setting; at most 20 % of files with a bad line are refused."""
    found = tally.summary([result for at in range(0, len(SEEDS), CHUNK) for result in results(at)])
    read, plain = found["undamaged_plain_read"]
    refused, single = found["one_bad_line_file_refused"]
    assert plain > 150
    assert read >= 0.99 * plain
    assert single > 30
    assert refused <= 0.2 * single


def test_the_generator_writes_what_it_says() -> None:
    """csv, json and pyarrow, told the true form, read the rows of 300 sources as they were meant; a seed makes the same bytes."""
    for seed in range(300):
        source = Source(seed)
        assert confirm(source) == [], source.describe()
    again, before = Source(7), Source(7)
    assert [file.data for file in again.files] == [file.data for file in before.files]
    assert again.describe() == before.describe()


def test_every_fault_and_every_form_is_drawn() -> None:
    """Each kind of fault, format, encoding, compression and standing is among the first 1,500 sources."""
    sources = [Source(seed) for seed in range(1500)]
    forms = [file.form for source in sources for file in source.files]
    assert {source.fault for source in sources} == {"", *FAULTS}
    assert {form.format for form in forms} == {"csv", "tsv", "jsonl", "ndjson", "json", "parquet"}
    assert len({form.encoding for form in forms}) == 11
    assert {form.compression for form in forms} == {"", "gz", "zst"}
    assert {form.dialect.delimiter for form in forms if form.format == "csv"} == {",", ";", "\t", "|"}
    assert {form.end for form in forms} == {"\n", "\r\n", "\r"}
    assert {source.made.linked for source in sources} == {"", "partition", "file", "broken", "twice"}
    assert any(len({file.path.casefold() for file in source.files}) < len(source.files) for source in sources)
    assert {source.standing() for source in sources if not source.fault} == {"plain", "setting", "told", "ambiguous", "odd"}


def test_a_right_reader_passes() -> None:
    """A reader that is told the true forms, and names the rows that a fault touched, is right about 400 sources of all kinds."""
    wrong = [(source.describe(), verdict) for source, verdict in map(asked, range(400)) if not verdict.right(source)]
    assert not wrong


def test_a_reader_that_refuses_damaged_files_by_name_passes() -> None:
    """Stopping at the damaged file, with its name and the line of the fault, is right for each of 300 damaged sources."""
    damaged = [source for seed in range(750) if (source := Source(seed)).fault][:300]
    verdicts = {source.seed: judge(source, "", functools.partial(refusing, source)) for source in damaged}
    assert {seed: verdict for seed, verdict in verdicts.items() if verdict.outcome != "refused"} == {}
    assert len(verdicts) > 250


def refusing(source: Source, *_: Any) -> Said:
    """A message with the damaged file and the first line of the fault."""
    lines = [min(row.lines) for row in source.main.rows if row.touched]
    return Said(error=f"the file can't be read; where: {source.main.path}, line {min(lines, default=1)}")


def asked(seed: int) -> tuple[Source, Verdict]:
    """The verdict on a right reader."""
    source = Source(seed)
    return source, judge(source, "", lambda *_: honest(source))


def first(wanted: Callable[[Source], bool]) -> Source:
    """The first source of a kind."""
    return next(source for seed in range(2000) if wanted(source := Source(seed)))


def sound(source: Source) -> bool:
    """A plain source of one CSV file with some rows, and something beside it."""
    main = source.main
    return (
        not source.fault
        and source.standing() == "plain"
        and len(source.files) == 1
        and main.form.format == "csv"
        and len(main.rows) > 4
    )


LIES: dict[str, tuple[str, Callable[[Source, Said], Said]]] = {
    "a row lost": ("silent", lambda source, said: without(said, 2)),
    "a row twice": ("silent", lambda source, said: replace(said, rows=[*said.rows, said.rows[1]])),
    "the other label": ("silent", lambda source, said: changed(said, 1, label=1 - said.rows[1].values["label"])),
    "a space less in the text": ("silent", lambda source, said: changed(said, 1, query=f"{said.rows[1].values['query']} ")),
    "no row at all": ("silent", lambda source, said: replace(said, rows=[])),
    "the lines shifted": (
        "misplaced",
        lambda source, said: replace(said, rows=[replace(row, line=(row.line or 0) + 1) for row in said.rows]),
    ),
    "rows of a file beside": (
        "silent",
        lambda source, said: replace(said, rows=[*said.rows, replace(said.rows[0], file=".hidden.csv")]),
    ),
    "a row without its place": ("unnamed", lambda source, said: replace(said, rows=[_unread(said, 0, None), *said.rows[1:]])),
    "a row named that is whole": (
        "named",
        lambda source, said: replace(said, rows=[_unread(said, 0, said.rows[0].line), *said.rows[1:]]),
    ),
    "refused without a setting": ("refused", lambda source, said: Said(error=f"{source.main.path} can't be read")),
    "refused with a setting that does not help": ("unsettled", lambda source, said: Said(error="set source.encoding")),
    "the file as the message": ("flood", lambda source, said: Said(error="x" * 3000)),
    "a traceback": ("traceback", lambda source, said: Said(crash="Traceback")),
    "a hang": ("hang", lambda source, said: Said(crash="hang")),
    "a file that nobody lists": ("unaccounted", lambda source, said: replace(said, listed=set())),
    "rows that don't add up": ("silent", lambda source, said: replace(said, accounts=[_rows(len(said.rows), kept=1)])),
    "rows that never came in": ("silent", lambda source, said: replace(said, accounts=[_rows(3, kept=3)])),
}


def _unread(said: Said, at: int, line: int | None) -> Any:
    row = said.rows[at]
    return replace(row, line=line, values=dict.fromkeys(row.values), unread="row=no row")


def _rows(came: int, *, kept: int) -> dict[str, int]:
    return {"in": came, "made": 0, "kept": kept, "quarantined": 0, "dropped": 0}


@pytest.mark.parametrize("lie", LIES)
def test_a_wrong_reader_is_found(lie: str) -> None:
    """Each way of being wrong about an undamaged file is seen, and called by its name."""
    outcome, make = LIES[lie]
    source = first(sound)
    verdict = judge(source, "", lambda *_: make(source, honest(source)))
    assert (verdict.outcome, verdict.right(source)) == (outcome, False)


def test_a_setting_that_the_message_names_is_followed() -> None:
    """A reader that asks for the encoding is given the true one, and the source counts as settled, not as read."""
    source = first(sound)
    verdict = judge(
        source,
        "",
        lambda address, given, files: honest(source) if "source.encoding" in given else Said(error="set source.encoding"),
    )
    assert (verdict.outcome, verdict.settings, verdict.right(source)) == ("settled", ("source.encoding",), True)


def test_a_column_that_is_said_to_be_missing_is_asked_for() -> None:
    """Own names of columns: a reader that names the file and the column is given `source.columns`; a mute one is silent."""
    source = first(lambda source: "source.columns" in source.answers and not source.told and len(source.main.rows) > 3)
    said = honest(source)
    blank = replace(said, rows=[replace(row, values={**row.values, "query": None}) for row in said.rows])
    telling = replace(blank, missing={file.path: ["query"] for file in source.files})
    assert judge(source, "", lambda address, given, files: said if "source.columns" in given else telling).outcome == "settled"
    assert judge(source, "", lambda *_: telling).outcome == "unsettled"
    assert judge(source, "", lambda *_: blank).outcome == "silent"


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("{file}: line {line} has 7 values", "refused"),
        ("{file}: line 9999 has 7 values", "misplaced"),
        ("{file} can't be read", "unnamed"),
        ("line {line} has 7 values", "unnamed"),
    ],
)
def test_a_refusal_names_file_and_line(message: str, outcome: str) -> None:
    """A bad line may stop the run where the message holds the file and the right line."""
    source = first(lambda source: source.fault == "too many values")
    line = min(min(row.lines) for row in source.main.rows if row.touched)
    text = message.format(file=source.main.path, line=line)
    assert judge(source, "", lambda *_: Said(error=text)).outcome == outcome


def test_a_row_swallowed_by_another_is_found() -> None:
    """Two rows that a quote made one are a silent loss, unless the line that holds both is named with its last line."""
    source = first(lambda source: source.fault == "two quotes that make two rows one" and len(source.files) == 1)
    said = honest(source)
    merged = [row for row in said.rows if row.unread is None]
    assert judge(source, "", lambda *_: replace(said, rows=merged)).outcome == "silent"
    whole = [row for row in said.rows if row.unread is not None]
    spanned = replace(whole[0], last=whole[-1].line)
    assert judge(source, "", lambda *_: replace(said, rows=[*merged, spanned])).outcome == "named"


@pytest.mark.parametrize("seed", [7, next(seed for seed in range(2000) if Source(seed).fault == "cut gzip or zstd")])
def test_a_failing_seed_is_replayed_by_a_command(tmp_path: Path, seed: int) -> None:
    """`replay` describes the source, writes it into the folder, and says what came of it."""
    command = [sys.executable, "-m", "tests.support.fuzzing", "replay", str(seed), "--into", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    source = Source(seed)
    assert done.stdout.startswith(source.describe())
    assert {path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == {file.data for file in source.files} | {
        *source.neighbours.values()
    }
    assert done.returncode in {0, 1}


def test_a_reader_that_dies_or_hangs_costs_its_seed_alone(tmp_path: Path) -> None:
    """A process that ends at a seed, or prints nothing for a second, is started again at the next; the seed counts as failed."""
    program = tmp_path / "reader.py"
    program.write_text(
        "import os, sys, time\n"
        "for seed in sys.argv[1:]:\n"
        "    if seed == '5':\n        os._exit(7)\n"
        "    if seed == '6':\n        time.sleep(60)\n"
        '    print(f\'{{"seed": {seed}, "outcome": "read"}}\', flush=True)\n'
    )
    found = list(tally.watched([4, 5, 6, 7], patience=1, program=[sys.executable, str(program)]))
    assert [(result["seed"], result["outcome"]) for result in found] == [(4, "read"), (5, "traceback"), (6, "hang"), (7, "read")]


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (lambda *_: time.sleep(30), "hang"),
        (lambda *_: (_ for _ in ()).throw(pl.exceptions.PanicException("a panic")), "a panic"),
        (lambda *_: (_ for _ in ()).throw(KeyError("x")), "KeyError"),
    ],
)
def test_a_hang_and_a_panic_are_told(monkeypatch: pytest.MonkeyPatch, does: Callable[..., Any], said: str) -> None:
    """A reader that takes longer than it may, a panic of polars (no Exception), and any error that is none of the package's."""
    monkeypatch.setattr(product, "SECONDS", 0.2)
    monkeypatch.setattr(product, "open_source", does)
    assert said in product.in_process("somewhere", {}, 1).crash


def test_counts_by_kind_become_tables() -> None:
    """Two undamaged sources and a damaged one: a line for each kind, with the outcomes that are wrong in a column of their own."""
    base = {"fault": "", "standing": "plain", "format": "csv", "dialect": "comma", "encoding": "utf-8"}
    counts = tally.kinds(
        [
            base | {"outcome": "read"},
            base | {"outcome": "silent"},
            base | {"fault": "NUL", "standing": "damaged", "outcome": "named"},
        ]
    )
    assert json.loads(json.dumps(counts))["fault"] == {"NUL": {"named": 1}}
    lines = tally.tables(counts).splitlines()
    assert "| csv | 2 | 1 | 0 | 1 silent |" in lines
    assert "| NUL | 1 | 0 | 0 | 1 | 0 |" in lines
