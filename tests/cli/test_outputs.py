"""What a command is given from outside, tried before its work: paths to write to, the scratch folder, arguments, the store."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from relevance_core.cli import console, results
from relevance_core.cli.outputs import output_file, output_folder
from relevance_core.config import ServingSettings
from relevance_core.errors import SettingsError, StoreError
from relevance_core.machine import require_python, scratch
from relevance_core.registry import Registry
from relevance_core.store import Store, open_store
from relevance_core.store.disk import disk_errors, writing
from tests.support.command_cases import published, run
from tests.support.loop import command, environment


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "'' is no path"),
        ("s3://b/p", "'s3://b/p' is no path"),
        ("TMP", "Is a directory"),
        ("TMP/file/x.csv", "Not a directory"),
        ("TMP/" + "l" * 300, "File name too long"),
        ("TMP/new/" + "l" * 300, "File name too long"),
        ("TMP/" + "l/" * 3000, "File name too long"),
        ("/proc/foo", "can't be written: "),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    """The wrong kind, a file where a folder is needed, no rights, a name that is too long; nothing is left behind."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError) as caught:
        output_file(text.replace("TMP", str(tmp_path)))
    assert problem in caught.value.what
    assert caught.value.expected == "the path of a file on this machine that this user may write"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("text", ["", "s3://b/p", "TMP/file", "TMP/file/x", "TMP/" + "l" * 300, "/proc/foo"])
def test_a_folder_that_cannot_be_written_to_is_refused(text: str, tmp_path: Path) -> None:
    """The same of folders."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"can't be written|is no path"):
        output_folder(text.replace("TMP", str(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_path_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    """A file that is there keeps its bytes, folders that are not there are not made, a device is taken."""
    (tmp_path / "file").write_text("kept")
    for text in (str(tmp_path / "file"), str(tmp_path / "a" / "b.csv"), "/dev/null"):
        assert output_file(text) == text
    for text in (str(tmp_path), str(tmp_path / "a" / "b")):
        assert output_folder(text) == text
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "kept")]


@pytest.mark.parametrize(
    "line",
    [
        "simulate --out TMP/file",
        "score --task QC --input none.csv --store TMP --output TMP/file/x.csv",
        "report run --store TMP --output TMP",
        "review export --store TMP --output TMP/file/x.csv",
        "ablate --store TMP --source none --window-end 2026-10-08 --out TMP/file",
        "cikm prepare --train none --out TMP/file",
        "cikm predict --store TMP --test none --output TMP",
    ],
)
def test_every_output_is_tried_before_the_work(line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2 and one line that names the option, before the input, which is not there, is looked for."""
    (tmp_path / "file").touch()
    done = run(capsys, *line.replace("TMP", str(tmp_path)).split())
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"; where: --out{'' if '--output' not in line else 'put'}; expected: the path of a f" in done.err


def test_a_disk_that_fails_while_a_file_is_written_is_one_line() -> None:
    """A full device raises StoreError (74), which promises nothing about what is left of the file."""
    with pytest.raises(StoreError, match="No space left on device") as caught, writing(Path("/dev/full")):
        Path("/dev/full").write_text("x")
    for write in (pl.DataFrame.write_parquet, pl.DataFrame.write_csv):
        with (
            pytest.raises(StoreError, match="No space left on device; where: /dev/full; what to do: free space"),
            writing(Path("/dev/full")),
        ):
            write(pl.DataFrame({"a": [1]}), Path("/dev/full"))
    assert "nothing half-written" not in str(caught.value)


def test_reading_asks_for_the_right_to_read() -> None:
    """Of a store that this user may not read, the error doesn't ask for the right to write."""
    with pytest.raises(StoreError, match=r"give this user the right to read there$"), disk_errors("reading", Path("x"), "read"):
        raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/foo"])
def test_a_scratch_folder_that_cannot_be_used_is_named(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the status of settings and names RELEVANCE_SCRATCH."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("RELEVANCE_SCRATCH", str(tmp_path / place))
    with pytest.raises(SettingsError, match=r"the scratch folder can't be used: .*set RELEVANCE_SCRATCH to such a folder"):
        scratch("work")


def test_an_argument_that_is_no_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A byte that is no UTF-8 reaches no command."""
    done = run(capsys, "registry", "promote", "QC=0123", "--why", "\udcff")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("relevance: an argument is no text; where: \\udcff; expected: UTF-8; ")


def test_a_store_whose_name_is_too_long_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """No file system has such a name: StoreError."""
    for line in ("registry list", "report run", "review list"):
        done = run(capsys, *line.split(), "--store", "/tmp/" + "l" * 5000)
        assert (done.code, done.err.count("\n")) == (74, 1), line
        assert "File name too long" in done.err


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("none.csv", 66, "there is no such file; where: none.csv"),
        (".csv/", 64, ".csv/ is no file of the review queue"),
        ("folder.csv", 65, "the file can't be read: Is a directory; where: folder.csv"),
        ("l" * 300 + ".csv", 65, "the file can't be read: File name too long"),
    ],
)
def test_a_sheet_that_cannot_be_read_is_one_line(
    name: str, code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`review import` of a path that is not there, a folder, or a name that is too long."""
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.chdir(tmp_path)
    done = run(capsys, "review", "import", name, "--store", str(tmp_path))
    assert (done.code, done.err.count("\n")) == (code, 1)
    assert words in done.err


def test_a_look_for_an_object_raises_errors_of_the_store() -> None:
    """Whether an object exists can't be told where the folder's name is too long."""
    with pytest.raises(StoreError, match="File name too long"):
        open_store("/" + "l" * 300).exists("runs/x/run.json")


@pytest.mark.parametrize("line", ["simulate --out OUT", "ready --endpoint http://127.0.0.1:1", "review list --store OUT"])
@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        ("--set bogus=1", 64, "there is no such setting; where: bogus"),
        ("--set train.epochs=x", 64, "'x' is no number; where: train.epochs"),
        ("--settings nope.toml", 64, "there is no such file; where: nope.toml"),
        ("--settings=", 2, "its value is empty; where: --settings"),
        ("--settings a.toml --settings b.toml", 2, "it is given twice; where: --settings"),
    ],
)
def test_settings_are_checked_by_commands_that_read_none(
    line: str, given: str, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting that can't be meant stops each command before it begins."""
    done = run(capsys, *line.replace("OUT", str(tmp_path / "out")).split(), *given.split())
    assert (done.code, done.out) == (code, "")
    assert words in done.last
    assert not (tmp_path / "out").exists()


def test_an_error_and_a_log_line_have_no_signs_for_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Signs that a terminal would take for a command are written as escapes."""
    done = run(capsys, "registry", "list", "--store", "s\x1b[31mx\x1b]0;pwn\a")
    assert "s\\x1b[31mx\\x1b]0;pwn\\x07" in done.last
    console.ToStderr().emit(logging.LogRecord("n", logging.INFO, "", 0, "a\x1b[2J\nb", (), None))
    assert capsys.readouterr().err == "a\\x1b[2J\nb\n"


def test_no_release_is_made_where_its_result_cannot_be_shown(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a stdout each command stops before its work, with or without --json: status 64, and one line."""
    registry = Registry(store)
    (version,) = published(registry, tmp_path)
    for more in ([], ["--json"]):
        with monkeypatch.context() as closed:
            closed.setattr(sys, "stdout", None)
            done = run(capsys, "registry", "promote", f"QC={version}", "--why", "w", "--store", store.uri, *more)
        assert (done.code, done.err.count("\n")) == (64, 1)
        assert "there is no stdout for the result" in done.err
    assert registry.current() is None


def test_without_a_stderr_the_status_is_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage is 2, a store that is not there 66."""
    for line, code in (("--foo", 2), ("registry list --store /none", 66)):
        with monkeypatch.context() as closed:
            closed.setattr(sys, "stderr", None)
            assert run(capsys, *line.split()).code == code
            sys.stderr.close()


@pytest.mark.parametrize("arguments", [("--help",), ("settings",)])
def test_a_full_disk_behind_stdout_is_one_line(arguments: tuple[str, ...]) -> None:
    """Status 74, and nothing of Python's."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, env=environment(), check=False)
    assert (done.returncode, done.stderr.count("\n")) == (74, 1)
    assert "the result can't be written: No space left on device; where: stdout" in done.stderr


def test_letters_that_stdout_cannot_take_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """In ASCII a line has Python's escapes, and JSON its own, so that it stays JSON."""
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii"))
    results.show(["schön"])
    results.print_json({"word": "schön"})
    line, value = out.getvalue().decode("ascii").splitlines()
    assert (line, json.loads(value)) == ("sch\\xf6n", {"word": "schön"})


def test_the_python_of_the_error_is_the_one_that_is_set() -> None:
    """With serving.python empty the error doesn't speak of auto."""
    with pytest.raises(SettingsError) as caught:
        require_python(ServingSettings(python=""))
    assert caught.value.where == "serving.python = ''"
