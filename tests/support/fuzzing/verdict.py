"""The judgement of what a reader says of a source, by the rows that were written."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote

from tests.support.fuzzing.damage import ANY, FAULTS
from tests.support.fuzzing.forms import DELIMITED
from tests.support.fuzzing.product import Ask, Got, Said
from tests.support.fuzzing.sources import Expected, Source, Written

OUTCOMES: Final[dict[str, str]] = {
    "read": "every row as it was written",
    "settled": "refused with the setting with which every row is then read",
    "named": "every row that is not as it was written is named with file and line",
    "refused": "the run stopped and named the file, and the line or byte where a line is bad",
    "unsettled": "refused with a setting with which it is not read either",
    "unnamed": "a row or a file that was not read is told without its place",
    "misplaced": "a row is told with another place than its own",
    "unaccounted": "a file that is neither read nor skipped with a reason",
    "flood": "a message of more than 2,000 characters",
    "silent": "rows lost, doubled or changed without a word",
    "traceback": "an error that is none of the package's",
    "hang": "more than ten seconds for a file",
}
"""Everything that can come of a source, the best first."""

FAILURES: Final = ("unsettled", "unnamed", "misplaced", "unaccounted", "flood", "silent", "traceback", "hang")
"""Never right. For an undamaged source `named` and `refused` are wrong, too."""

MESSAGE: Final = 2000
_SETTING = re.compile(r"source\.(?:csv\.)?[a-z_]+")
_PLACE = re.compile(r"\b(line|lines|row|rows|byte|bytes)\s+([\d,]+)")


@dataclass(frozen=True)
class Verdict:
    """What came of a source.

    Attributes:
        outcome: a key of OUTCOMES.
        detail: the first thing that shows it.
        settings: those that a message named and that were then given.
        seconds: of the reader.
        ledger: the reader told of every file.
    """

    outcome: str
    detail: str = ""
    settings: tuple[str, ...] = ()
    seconds: float = 0.0
    ledger: bool = False

    def right(self, source: Source) -> bool:
        """Tells whether a reader may do this with the source."""
        free = bool(source.fault) or source.standing() == "odd"
        return self.outcome not in FAILURES and (free or self.outcome in {"read", "settled"})


def judge(source: Source, address: str, ask: Ask) -> Verdict:
    """Asks for a source, follows the settings that messages name, and judges what comes of it."""
    given, followed, seconds = dict(source.told), list[str](), 0.0
    for _ in range(4):
        said = ask(address, given, len(source.files))
        seconds += said.seconds
        named = [name for name in dict.fromkeys(_named(said, source)) if name in source.answers and name not in given]
        # A damaged file may be ambiguous beside, which the message then tells: the setting that it names comes first.
        if said.crash or not named or (source.fault and said.error and _refused(source, said, followed)[0] == "refused"):
            break
        given |= {name: source.answers[name] for name in named}
        followed += named
    outcome, detail = _crashed(said) or (_refused(source, said, followed) if said.error else _compared(source, said))
    if followed and outcome == "read":
        outcome, detail = "settled", ", ".join(followed)
    elif followed and not source.fault and outcome in {"named", "refused"}:
        outcome, detail = "unsettled", f"{', '.join(followed)}: {detail}"
    return Verdict(outcome, detail, tuple(followed), seconds, said.listed is not None)


def _named(said: Said, source: Source) -> list[str]:
    """The settings that a message names; a file that is said to lack a column asks for the names of columns, or for the task.

    A row's note is a message too: with bad rows in quarantine a row that can't be decoded stops nothing, and its note is all that
    names the setting. No reader can tell that an unknown column holds the times, and a row in a day's partition needs none: the
    ledger that lists the column as not read says all that can be said.
    """
    found = _SETTING.findall(said.error)
    if not source.fault:
        found += [name for row in said.rows if row.unread for name in _SETTING.findall(row.unread)]
        own = {name for name, known in source.answers.get("source.columns", {}).items() if known == "event_time"}
        ignored = {name.strip().casefold() for names in said.ignored.values() for name in names}
        found += ["source.columns"] if own & ignored else []
    if said.missing and not source.fault:
        found += ["source.task"] if any("task" in names for names in said.missing.values()) else []
        found += ["source.columns"]
    return found


def _crashed(said: Said) -> tuple[str, str] | None:
    if said.crash:
        return ("hang", "") if said.crash == "hang" else ("traceback", said.crash)
    told = itertools.chain([said.error], (row.unread or "" for row in said.rows))
    longest = max(told, key=len)
    return ("flood", f"{len(longest)} characters: {longest[:200]}") if len(longest) > MESSAGE else None


def _placed(source: Source, error: str) -> bool:
    """Tells whether a message names the damaged file, and the place in it where the place is more than the file."""
    name = PurePosixPath(source.main.path).name
    return (name in error or name in unquote(error)) and (FAULTS[source.fault].whole or bool(_PLACE.search(error)))


def _refused(source: Source, said: Said, followed: list[str]) -> tuple[str, str]:
    if not source.fault:
        return ("unsettled", f"{', '.join(followed)}: {said.error}") if followed else ("refused", said.error)
    if not _placed(source, said.error):
        return "unnamed", said.error
    touched = [row for row in source.main.rows if row.touched]
    lines = [int(number.replace(",", "")) for unit, number in _PLACE.findall(said.error) if unit.startswith("line")]
    if FAULTS[source.fault].one and lines and touched:
        # A fault may show on the last line of its row, or on the line after it.
        spans = [range(min(row.lines), max(row.lines) + _height(row) + 2) for row in touched]
        if source.fault != "unclosed quote" and not any(line in span for line in lines for span in spans):
            return "misplaced", f"the fault is on line {min(touched[0].lines)}: {said.error}"
    return "refused", said.error


def _height(row: Expected) -> int:
    """Lines of a row below its first."""
    return sum(len(re.findall("\r\n|\r|\n", value)) for value in row.values.values() if isinstance(value, str))


def _compared(source: Source, said: Said) -> tuple[str, str]:
    by_file: dict[str, list[Got]] = defaultdict(list)
    known = {file.path: file for file in source.files}
    for row in said.rows:
        by_file[_path(row.file, known)].append(row)
    if strangers := [file for file in by_file if file not in known and file]:
        return "silent", f"rows of {strangers}, which is no file of the source"
    nameless, taken = by_file.pop("", []), set[int]()
    found = [_ledger(source, said), _accounts(source, said)]
    for file in source.files:
        rows, used = (nameless, taken) if nameless else (by_file.get(file.path, []), set[int]())
        found.append(_file(file, rows, used, said))
        if not nameless and not _missing(said, file):  # rows without a column that is told are named by that
            found.append(_left(file.path, rows, used))
    found.append(_left("", nameless, taken))
    return max(found, key=lambda one: list(OUTCOMES).index(one[0]))


def _path(told: str, known: Mapping[str, Written]) -> str:
    """The path of the file that the product calls so: it may know it below a folder of the source, or of the address."""
    if told in known:
        return told
    return next((path for path in known if path.endswith(f"/{told}") or told.endswith(f"/{path}")), told)


def _left(path: str, rows: list[Got], used: set[int]) -> tuple[str, str]:
    """Judges rows that stand for none that was written."""
    worst = ("read", "")
    for at, row in enumerate(rows):
        if at not in used and row.unread is None:
            return "silent", f"{path}, line {row.line}: a row that nobody wrote: {dict(row.values)}"
        if at not in used:
            worst = _worse(worst, ("named" if row.line else "unnamed", f"{path}, line {row.line}: {row.unread}"))
    return worst


def _file(file: Written, rows: list[Got], used: set[int], said: Said) -> tuple[str, str]:
    """Compares the rows of a file with `rows`, and adds the places of those that stand for them to `used`."""
    texts = defaultdict(list)
    for place, row in enumerate(rows):
        texts[_pair(row.values)].append(place)
    worst, lost = ("read", ""), list[Expected]()
    missing = _missing(said, file)
    for expected in file.rows:
        at = _find(file, expected, rows, texts, used, missing)
        if at is None:
            lost.append(expected)
            continue
        used.add(at)
        line = rows[at].line
        if line is not None and line not in expected.lines:
            worst = _worse(worst, ("misplaced", f"{file.path}: row of line {sorted(expected.lines)} is told for line {line}"))
        if rows[at].unread is not None and not expected.touched:
            worst = _worse(worst, ("named", f"{file.path}, line {line}: {rows[at].unread}"))
    for expected in lost:
        worst = _worse(worst, _lost(file, expected, rows, used, said, missing))
    return worst


def _missing(said: Said, file: Written) -> list[str]:
    """Required columns that the product says a file lacks."""
    return next((names for name, names in said.missing.items() if _path(name, {file.path: file}) == file.path), [])


def _worse(one: tuple[str, str], other: tuple[str, str]) -> tuple[str, str]:
    return max(one, other, key=lambda found: list(OUTCOMES).index(found[0]))


def _pair(values: Mapping[str, Any]) -> tuple[str, str]:
    return values["query"] or "", values["target"] or ""


def _find(
    file: Written,
    expected: Expected,
    rows: list[Got],
    texts: Mapping[tuple[str, str], list[int]],
    used: set[int],
    missing: list[str],
) -> int | None:
    """Finds the row that is as it was written, or as a fault lets it be read."""
    readings = [dict(expected.values)]
    others = dict(expected.others)
    if others.pop("missing", None) in missing or "missing" not in expected.others:
        readings += [{**expected.values, **others}] if others else []
    for reading in readings:
        told = ANY not in _pair(reading)
        for at in texts.get(_pair(reading), []) if told else range(len(rows)):
            if at not in used and _equal(reading, rows[at].values, empty=file.form.format in DELIMITED):
                return at
    return None


def _equal(wanted: Mapping[str, Any], got: Mapping[str, Any], *, empty: bool) -> bool:
    """Compares values; a delimited file does not tell an empty text from none."""
    for name, value in wanted.items():
        other = got[name]
        if empty and name in {"query", "target"}:
            value, other = value or "", other or ""
        if value is not ANY and value != other:
            return False
    return True


def _lost(file: Written, expected: Expected, rows: list[Got], used: set[int], said: Said, missing: list[str]) -> tuple[str, str]:
    """Finds where a row that was not read as it was written is named."""
    detail = f"{file.path}, line {min(expected.lines)}: {dict(expected.values)}"
    skipped = next((why for name, why in said.skipped.items() if _path(name, {file.path: file}) == file.path), "")
    if skipped:
        return "named", f"{file.path} is skipped: {skipped}"
    if missing:
        return "named", f"{file.path} lacks {missing}"
    for at, row in enumerate(rows):
        # The row's lines are its line by three ways of counting: the reader's way is one of them.
        covers = row.line is not None and any(row.line <= line <= (row.last or row.line) for line in expected.lines)
        if row.unread is not None and covers:
            used.add(at)
            return "named", f"{file.path}, line {row.line}: {row.unread}"
    same = next((row for at, row in enumerate(rows) if at not in used and row.line in expected.lines), None)
    if same is not None:
        used.add(rows.index(same))
        return "silent", f"{detail} is read as {dict(same.values)}"
    placeless = next((at for at, row in enumerate(rows) if at not in used and row.unread is not None and row.line is None), None)
    if placeless is not None:
        used.add(placeless)
        return "unnamed", f"{detail}: {rows[placeless].unread}"
    near = next((row for at, row in enumerate(rows) if at not in used and row.unread is None), None)
    return "silent", f"{detail} is lost{f'; not written: {dict(near.values)}' if near else ''}"


def _accounts(source: Source, said: Said) -> tuple[str, str]:
    """Rows in are rows kept, quarantined and dropped, and the first stage takes in all that were written."""
    for rows in said.accounts:
        if rows["in"] + rows["made"] != rows["kept"] + rows["quarantined"] + rows["dropped"]:
            return "silent", f"rows don't add up: {rows}"
    written = sum(len(file.rows) for file in source.files)
    if said.accounts and not source.fault and said.accounts[0]["in"] != written:
        return "silent", f"{written} rows were written, {said.accounts[0]['in']} came in"
    return "read", ""


def _ledger(source: Source, said: Said) -> tuple[str, str]:
    """Every file of the address is listed, and those that are no data are skipped with a reason."""
    if said.listed is None:
        return "read", ""
    inside = {**source.neighbours, **source.idle} if not source.alone else {}
    for path in (*inside, *(file.path for file in source.files)):
        told = [
            name for name in said.listed if path.endswith(name) or name.endswith(path) or path.startswith(name.rstrip("/") + "/")
        ]
        if not told:
            return "unaccounted", f"{path} is not in the ledger"
        if path in inside and not any(said.skipped.get(name) for name in told):
            return "unaccounted", f"{path} is no data, and not skipped with a reason"
    return "read", ""
