"""How a command is called: errors of one line, whole option names, help, version, and docs/commands.md."""

from __future__ import annotations

import re
import shlex

import pytest

from relevance_airflow.params import heals
from relevance_core import __version__, errors
from relevance_core.cli.main import GROUPS, build_parser
from relevance_core.cli.parsing import UsageError, a_moment
from relevance_core.errors import RelevanceError
from relevance_core.runs.steps import BEGIN, REPORT, STEPS
from tests.support.command_cases import leaves, parsers, run
from tests.support.places import DOCS

PAGE = (DOCS / "commands.md").read_text()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "relevance: COMMAND is missing"),
        ("retrian", "relevance: there is no 'retrian'; where: COMMAND; expected: simulate, check, retrain, "),
        ("--foo settings", "relevance: there is no option or argument '--foo'"),
        ("--foo", "relevance: there is no option or argument '--foo'"),
        ("registry", "relevance registry: COMMAND is missing"),
        ("registry promote", "relevance registry promote: TASK=VERSION, --why are missing"),
        ("evaluate --task QX --data x", "relevance evaluate: there is no 'QX'; where: --task; expected: QC, QI"),
        ("stage mines --run x", "relevance stage: there is no 'mines'; where: NAME; expected: begin, ingest, "),
        ("retrain --window-end soon", "relevance retrain: 'soon' is no date; where: --window-end; expected: YYYY-MM-DD"),
        ("simulate --out x --days 0", "relevance simulate: '0' is too small; where: --days; expected: a whole number"),
        ("simulate --out x --days two", "relevance simulate: 'two' is no whole number; where: --days; expected: a whole number"),
        ("simulate --out x --seed y", "relevance simulate: 'y' is no whole number; where: --seed; expected: a whole number"),
        ("simulate --out x --seed -1", "relevance simulate: '-1' is too small; where: --seed; expected: a whole number from 0 to"),
        ("simulate --out x --start 9999-12-30", "relevance simulate: '9999-12-30' is no date; where: --start; expected: YYYY"),
        ("simulate --out x --days 99999", "relevance simulate: '99999' is too large; where: --days; expected: a whole number"),
        ("serve --port 99999999", "relevance serve: '99999999' is too large; where: --port; expected: a whole number"),
        ("serve --gpus -1", "relevance serve: '-1' is too small; where: --gpus; expected: a whole number from 0 to"),
        ("cikm predict --test a --confidence nan", "relevance cikm predict: 'nan' is no number; where: --confidence; expected: "),
        ("registry list --task QX", "relevance registry list: there is no 'QX'; where: --task; expected: QC, QI"),
        ("registry show QX", "relevance registry show: there is no 'QX'; where: TASK; expected: QC, QI"),
        ("registry verify QX", "relevance registry verify: there is no 'QX'; where: TASK; expected: QC, QI"),
        ("registry rollback --task QX --why w", "relevance registry rollback: there is no 'QX'; where: --task; expected: QC, QI"),
        ("registry rollback --why=", "relevance registry rollback: '' is no text; where: --why; expected: a word or more"),
        ("--store s registry list", "relevance: there is no option or argument '--store'; expected: a command first"),
        ("retrain --tasks=", "relevance retrain: '' is no text; where: --tasks; expected: a word or more"),
        ("retrain --source=", "relevance retrain: '' is no text; where: --source; expected: a word or more"),
        ("retrain --onboard=", "relevance retrain: '' is no text; where: --onboard; expected: a word or more"),
        ("review export --output x.csv --language=", "relevance review export: '' is no text; where: --language; expected: a word"),
        ("registry --store s list", "relevance registry: there is no option or argument '--store'; expected: a command first, and"),
        ("retrain --window-end 2026-10-15T12:00", "relevance retrain: '2026-10-15T12:00' is a time without a zone; where: "),
        ("simulate --out x --start 2026-10-15T12:00", "relevance simulate: '2026-10-15T12:00' is no date; where: --start; "),
        ("cikm predict --test a --confidence c", "relevance cikm predict: 'c' is no number; where: --confidence; expected: "),
        ("retrain --onboard", "relevance retrain: expected one argument; where: --onboard"),
        ("settings now", "relevance settings: there is no option or argument 'now'"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_as_any_error(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, nothing on stdout, and on stderr one line: command, what, where, expected, and the help to look into."""
    done = run(capsys, *line.split())
    called = words.partition(":")[0]
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(words)
    assert done.err.endswith(f"; what to do: see `{called} --help`\n")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (
            "registry list",
            64,
            "relevance registry list: no store is named; where: --store; expected: a folder or s3://bucket/prefix",
        ),
        ("evaluate --task QC --data x --store s4://x", 64, "relevance evaluate: 's4://x' is no address of a store; expected: "),
        ("report run --store STORE", 66, "relevance report: "),
        ("stage mine --run run --store STORE --set a.b=1", 64, "relevance stage: "),
        ("registry promote QX=0123abcd --why w --store STORE", 64, "relevance registry promote: 'QX=0123abcd' can't be promoted; "),
        (
            "registry rollback --version 0123abcd --why w --store STORE",
            64,
            "relevance registry rollback: a version was given without",
        ),
        (
            "serve --base QX@0123abcd --store STORE",
            64,
            "relevance serve: 'QX@0123abcd' names no version; where: --base; expected: ",
        ),
        ("retrain --source ftp://x --window-end 2026-10-08 --store STORE", 64, "relevance retrain: 'ftp://x' is no address"),
        ("stage begin --run ü/x --store STORE", 64, "relevance stage: 'ü/x' can't name a run; where: --run-id, --run; expected: "),
        ("retrain --run-id a\nb --store STORE", 64, "relevance retrain: 'a\\nb' can't name a run; "),
    ],
)
def test_other_errors_have_the_same_form(
    line: str, code: int, words: str, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting that can't be meant and a run that is not there: the error's own status, its command, one line."""
    done = run(capsys, *(str(tmp_path_factory.mktemp("store")) if word == "STORE" else word for word in line.split(" ")))
    assert (done.code, done.out) == (code, "")
    assert done.last.startswith(words)
    assert "[" not in done.last.partition(":")[0]


@pytest.fixture(autouse=True)
def _no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RELEVANCE_STORE", raising=False)


def test_no_parser_takes_a_shortened_option() -> None:
    """`--stor` is not `--store`, in any command; the whole name is offered."""
    assert [parser.prog for parser in parsers() if parser.allow_abbrev] == []
    with pytest.raises(UsageError, match=r"no option or argument '--stor x'; expected: --store;"):
        build_parser().parse_args(["registry", "list", "--stor", "x"])


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the package's version and ends well."""
    assert run(capsys, "--version") == (0, f"relevance {__version__}\n", "")


def test_the_help_names_every_command_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    """`relevance --help`: the groups in their order, each command in its own, and three examples."""
    out = run(capsys, "--help").out
    commands = {parser.prog.split()[1] for parser in leaves()}
    assert {name for group in GROUPS.values() for name in group} == commands
    places = [out.index(f"\n{group}:\n") for group in GROUPS]
    assert places == sorted(places)
    for place, (group, texts) in zip(places, GROUPS.items(), strict=True):
        part = out[place : out.index("\n\n", place)]
        assert re.findall(r"^  (\w+)  +\w", part, re.MULTILINE) == list(texts), group
    assert out[out.index("examples") :].count("\n  relevance ") == 3


@pytest.mark.parametrize("parser", leaves(), ids=lambda parser: parser.prog.removeprefix("relevance "))
def test_the_example_in_the_help_of_a_command_is_one(parser) -> None:  # type: ignore[no-untyped-def]
    """It is of that command, and the parser takes it."""
    example = parser.epilog.splitlines()[1].strip()
    assert example.startswith(parser.prog + " ")
    words = shlex.split(example.partition(" > ")[0])
    assert build_parser().parse_args(words[1:]).called == parser.prog
    assert parser.epilog in parser.format_help()


def test_the_help_of_stage_lists_the_table_of_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """Every stage that can be run, in order, with its title and its text."""
    out = run(capsys, "stage", "--help").out
    listed = " ".join(out[out.index("stages, in their order") :].split())
    place = 0
    for step in (BEGIN, *STEPS, REPORT):
        said = f"{step.name} {step.title}{' (of a task)' if step.per_task else ''} {step.text}"
        assert said.replace("-", "- ") in listed.replace("- ", "-").replace("-", "- "), step.name
        assert listed.index(f" {step.name} {step.title}") > place
        place = listed.index(f" {step.name} {step.title}")


def test_the_page_names_every_command() -> None:
    """docs/commands.md has a line for each command, in the order of the help, and for nothing else."""
    order = [name for group in GROUPS.values() for name in group]
    expected = sorted((parser.prog for parser in leaves()), key=lambda prog: order.index(prog.split()[1]))
    assert re.findall(r"^\| `(relevance[\w ]+)` \|", PAGE, re.MULTILINE) == expected


def test_the_page_has_the_exit_codes_of_the_classes() -> None:
    """Every class of error is named at its code, and Airflow tries again where the page says so."""
    rows = re.findall(r"^\| (\d+) \| (.*) \| (yes|no) \|$", PAGE, re.MULTILINE)
    named = {name: int(code) for code, means, _ in rows for name in re.findall(r"`(\w+)`", means.partition(":")[0])}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RelevanceError)]
    assert named == {kind.__name__: kind.exit_code for kind in kinds if kind is not RelevanceError}
    assert {int(code) for code, _, _ in rows} >= {0, RelevanceError.exit_code, UsageError.exit_code, 130, 141}
    assert {int(code): again for code, _, again in rows if code != "0"} == {
        int(code): "yes" if heals(int(code)) else "no" for code, _, _ in rows if code != "0"
    }


def test_commands_of_the_page_are_commands() -> None:
    """Every command line in its blocks is taken by the parser."""
    block = "".join(re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
    lines = [re.split(r" [|>]| 2>", line)[0] for line in block.splitlines()]
    assert len(lines) == 5
    for line in lines:
        build_parser().parse_args(shlex.split(line)[1:])


@pytest.mark.parametrize(
    ("given", "end"),
    [
        ("2026-10-15", "2026-10-15T00:00:00+00:00"),
        ("2026-10-15T00:00:00+09:00", "2026-10-14T15:00:00+00:00"),
        ("2026-10-15T12:00Z", "2026-10-15T12:00:00+00:00"),
    ],
)
def test_the_end_of_a_window_is_meant_as_given(given: str, end: str) -> None:
    """A day is its first moment in UTC; a time in Tokyo is nine hours earlier in UTC; nothing is cut off."""
    assert a_moment(given).isoformat() == end
