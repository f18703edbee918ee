"""Parsers of the command line: whole option names, errors of one line, help with an example, commands in groups."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import math
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import IO, Any, Final, NoReturn, TypeAlias, TypeVar, overload

from relevance_core import __version__
from relevance_core.cli import results
from relevance_core.errors import SettingsError

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
Namespace = TypeVar("Namespace")

_CHOICE: Final = re.compile(r"invalid choice: (?P<given>.+) \(choose from (?P<choices>.+)\)", re.DOTALL)
_NUMBER: Final = re.compile(r"invalid (?P<kind>int|float) value: (?P<given>.+)", re.DOTALL)
_MISSING: Final = "the following arguments are required: "
_UNKNOWN: Final = "unrecognized arguments: "
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_NUMBERS: Final = {"int": "a whole number", "float": "a number"}


class UsageError(SettingsError):
    """A command line that can't be read. `called` is the command as far as it was understood."""

    exit_code = 2

    def __init__(self, called: str, what: str, *, where: str = "", expected: str = "", do: str = "") -> None:
        super().__init__(what, where=where, expected=expected, do=do or f"see `{called} --help`")
        self.called = called


class Parser(argparse.ArgumentParser):
    """A parser that takes no shortened option, and raises UsageError where argparse would print its usage and exit."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        of_ours = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, "exit_on_error": False}
        super().__init__(*arguments, **(options | of_ours))

    @overload
    def parse_known_args(
        self, args: Iterable[str] | None = None, namespace: None = None
    ) -> tuple[argparse.Namespace, list[str]]: ...
    @overload
    def parse_known_args(self, args: Iterable[str] | None, namespace: Namespace) -> tuple[Namespace, list[str]]: ...
    @overload
    def parse_known_args(self, *, namespace: Namespace) -> tuple[Namespace, list[str]]: ...
    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parses as argparse does. A command without further commands refuses here what it does not know, so that it is named."""
        words = sys.argv[1:] if args is None else list(args)
        if self._subparsers and words and words[0].startswith("-") and words[0] not in self._option_string_actions:
            self.error(_UNKNOWN + words[0])
        try:
            found, unknown = super().parse_known_args(words, namespace)
        except argparse.ArgumentError as error:
            raise self._refusal(error) from error
        if unknown and self._subparsers is None:
            self.error(_UNKNOWN + " ".join(unknown))
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        if message.startswith(_MISSING):
            names = message.removeprefix(_MISSING)
            raise UsageError(self.prog, f"{names} {'are' if ', ' in names else 'is'} missing")
        if message.startswith(_UNKNOWN):
            given = message.removeprefix(_UNKNOWN)
            near = difflib.get_close_matches(given.split("=")[0].split(" ")[0], self._option_string_actions, n=1)
            expected = " ".join(near) or ("a command first, and its options after it" if self._subparsers else "")
            raise UsageError(self.prog, f"there is no option or argument {given!r}", expected=expected)
        raise UsageError(self.prog, message)

    def print_help(self, file: IO[str] | None = None) -> None:  # type: ignore[override]  # typeshed's protocol of a file is private
        """Prints the help, to stdout where no file is given."""
        if file is None:
            results.emit(self.format_help())
        else:
            super().print_help(file)

    def _refusal(self, error: argparse.ArgumentError) -> UsageError:
        """Puts argparse's message about an argument into the form of every other error."""
        where, reason = error.argument_name or "", error.__context__
        if isinstance(reason, SettingsError):
            return UsageError(self.prog, reason.what, where=where, expected=reason.expected, do=reason.do)
        if choice := _CHOICE.fullmatch(error.message):
            expected = ", ".join(name.strip("'") for name in choice["choices"].split(", "))
            return UsageError(self.prog, f"there is no {choice['given']}", where=where, expected=expected)
        if number := _NUMBER.fullmatch(error.message):
            return UsageError(self.prog, f"{number['given']} is no number", where=where, expected=_NUMBERS[number["kind"]])
        return UsageError(self.prog, error.message, where=where)


class Version(argparse.Action):
    """Prints the version and ends."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None) -> None:
        """Ends with status 0."""
        results.emit(f"relevance {__version__}\n")
        sys.exit(0)


class Once(argparse.Action):
    """Takes a value that is not empty, and takes it once: of two values the first would be dropped without a word."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None) -> None:
        """Keeps the value. Raises ArgumentError."""
        if not values or getattr(namespace, self.dest) is not None:
            raise argparse.ArgumentError(self, "it is given twice" if values else "its value is empty")
        setattr(namespace, self.dest, values)


def add_command(
    commands: Commands, name: str, text: str, example: str, *parents: Parser, more: str = "", listed: bool = True
) -> Parser:
    """Adds a command.

    Args:
        commands: what it is added to.
        name: as it is typed.
        text: what it does, in a sentence; the first part of its help, and its line in the list of commands.
        example: what follows `relevance NAME`, with an argument for everything that is required.
        parents: parsers whose options it has too.
        more: lines for the end of its help.
        listed: shows it in the list of commands that argparse makes.
    """
    listing: dict[str, Any] = {"help": text} if listed else {}
    parser = commands.add_parser(name, description=filled(text), parents=list(parents), **listing)
    parser.epilog = "\n\n".join(part for part in (f"example:\n  {parser.prog} {example}", more) if part)
    parser.set_defaults(called=parser.prog)
    return parser


def filled(text: str, indent: str = "") -> str:
    """Text in lines no longer than those of the terminal."""
    return textwrap.fill(text, max(40, shutil.get_terminal_size().columns - 2), initial_indent=indent, subsequent_indent=indent)


def a_date(text: str) -> date:
    """A day of an option, far enough from the ends of the calendar to count days from it; a time beside it is refused, not cut off.

    Raises SettingsError.
    """
    with contextlib.suppress(ValueError):
        if _DAY.fullmatch(text) and 1900 <= (day := date.fromisoformat(text)).year < 3000:
            return day
    raise SettingsError(f"{text!r} is no date", expected="YYYY-MM-DD, in the years 1900 to 2999")


def a_moment(text: str) -> datetime:
    """The first moment of a day (UTC), or a time with its zone, of an option. Raises SettingsError."""
    expected = "YYYY-MM-DD, or a time with its zone: YYYY-MM-DDTHH:MMZ, YYYY-MM-DDTHH:MM+02:00"
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{text!r} is no date", expected=expected) from None
    if not 1900 <= found.year < 3000:
        raise SettingsError(f"{text!r} is no date", expected="a year from 1900 to 2999")
    if _DAY.fullmatch(text):
        return found.replace(tzinfo=UTC)
    if found.tzinfo is None:
        raise SettingsError(f"{text!r} is a time without a zone", expected=expected)
    return found.astimezone(UTC)


def a_text(text: str) -> str:
    """A text of an option that is not empty. Raises SettingsError."""
    if not text.strip():
        raise SettingsError(f"{text!r} is no text", expected="a word or more")
    return text


def a_number(text: str) -> float:
    """A finite number of an option. Raises SettingsError."""
    with contextlib.suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise SettingsError(f"{text!r} is no number", expected="a number")


def at_least(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """The type of an option that is a whole number from `least` to `most`."""

    def number(text: str) -> int:
        whole = re.fullmatch(r"[+-]?\d{1,4000}", text)
        if whole and least <= int(text) <= most:
            return int(text)
        problem = ("too small" if int(text) < least else "too large") if whole else "no whole number"
        raise SettingsError(f"{text!r} is {problem}", expected=f"a whole number from {least} to {most}")

    return number


def in_utf8(arguments: Sequence[str]) -> Sequence[str]:
    """Returns the arguments of a command line. Raises UsageError for an argument that is no UTF-8."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError("relevance", "an argument is no text", where=argument, expected="UTF-8") from None
    return arguments
