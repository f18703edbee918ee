"""Results on stdout: tables and lines for people, or one JSON object for programs.

Tables are laid out by rich, which is maintained, typed, and knows how many columns a letter of Japanese or Thai takes.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from relevance_core.errors import SettingsError, StoreError

Result = Mapping[str, Any]
CLOSED: Final = 128 + 13
"""The status of a command whose reader went away: a shell's for a process that SIGPIPE ended."""

_UNBOUNDED: Final = 1_000_000
_NARROWEST: Final = 20
"""No column of texts is made narrower: of a few letters a line nothing could be read. The terminal breaks such a row itself."""


@dataclass(frozen=True)
class Table:
    """A table for people. A column of numbers is aligned to the right, fractions have four digits, None is a dash.

    text: the names of columns that may be broken into several lines where a terminal is too narrow.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    text: frozenset[str] = frozenset()


Part = str | Table
Show = Callable[[Any], Iterable[Part]]


@contextlib.contextmanager
def nothing_on_stdout() -> Iterator[None]:
    """Sends to stderr all that is printed meanwhile: by Python, by C code, and by child processes, which inherit descriptor 1."""
    sys.stdout.flush()
    kept, flush_all = os.dup(1), ctypes.CDLL(None).fflush
    flush_all(None)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        flush_all(None)  # C code may still hold in its buffer what it printed
        os.dup2(kept, 1)
        os.close(kept)


def print_json(result: Result) -> None:
    """Prints a result as one line of JSON, which has escapes of its own where stdout can't take every letter."""
    emit(json.dumps(result, ensure_ascii=not _encoding(sys.stdout).lower().startswith("utf")) + "\n")


def show(parts: Iterable[Part]) -> None:
    """Prints them, each as soon as it is there."""
    for part in parts:
        emit(rendered(part, sys.stdout.isatty()))


def emit(text: str, stream: TextIO | None = None) -> None:
    """Writes text to stdout, or another stream; letters that its encoding lacks become escapes.

    Ends the process with CLOSED where nobody reads it any more. Raises StoreError where it can't be written, as on a full disk.
    """
    stream = stream or sys.stdout
    try:
        stream.write(text.encode(_encoding(stream), "backslashreplace").decode(_encoding(stream)))
        stream.flush()
    except BrokenPipeError:
        let_go(stream)
        raise SystemExit(CLOSED) from None
    except OSError as error:
        let_go(stream)
        raise StoreError(
            f"the result can't be written: {error.strerror}",
            where="stdout",
            do="free space, or send stdout elsewhere; the command has done its work",
        ) from error


def _encoding(stream: TextIO) -> str:
    return stream.encoding or "utf-8"


def require_streams() -> None:
    """Gives the process a stderr, to nowhere, where it has none. Raises SettingsError where it has no stdout for the result."""
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it stays open as long as the process
    if sys.stdout is None:
        raise SettingsError(
            "there is no stdout for the result", where="stdout", expected="a stream", do="send it to /dev/null to drop the result"
        )


def let_go(stream: TextIO) -> None:
    """Sends what is still written to a stream that nobody reads to nowhere, so that Python does not complain when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def rendered(part: Part, terminal: bool) -> str:
    """A part as text, a line feed at its end.

    Only on a terminal are there colours, and only there may the cells of a text column be broken into lines; nothing is ever cut.
    """
    if isinstance(part, str):
        return "".join(plain(line) + "\n" for line in part.splitlines() or [""])
    # Here, so that commands that print JSON start without it.
    from rich.cells import cell_len
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table as Grid
    from rich.text import Text

    console = Console(
        file=io.StringIO(), force_terminal=terminal, force_jupyter=False, width=None if terminal else _UNBOUNDED, markup=False
    )
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, name in enumerate(part.columns):
        values = [row[place] for row in part.rows]
        numbers = bool(values) and all(value is None or _is_number(value) for value in values)
        folds = name in part.text
        least = min(_NARROWEST, max((cell_len(cell(value)) for value in values), default=0)) if folds else None
        grid.add_column(Text(name), justify="right" if numbers else "left", no_wrap=not folds, overflow="fold", min_width=least)
    for row in part.rows:
        grid.add_row(*(Text(cell(value)) for value in row))
    console.width = max(console.width, Measurement.get(console, console.options.update(width=_UNBOUNDED), grid).minimum)
    with console.capture() as captured:
        console.print(grid)
    return "".join(line.rstrip() + "\n" for line in captured.get().splitlines())


def cell(value: object) -> str:
    """A value as the text of a cell."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    return plain(str(value))


def plain(text: str) -> str:
    """One line of text that no terminal takes for a command: what can't be printed is written as Python escapes it."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def counted(number: int, what: str, many: str = "") -> str:
    """`1 row`, `2 rows`. many: the plural, where it is not the word and an s."""
    return f"{number} {what if number == 1 else many or what + 's'}"


def tables_of(markdown: str) -> Iterator[Part]:
    """The lines of a Markdown text, its tables as tables."""
    lines: list[list[str]] = []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            lines.append([part.strip() for part in line.strip()[1:-1].split("|")])
            continue
        if lines:
            yield Table(lines[0], lines[2:])
            lines = []
        yield line


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
