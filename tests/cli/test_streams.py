"""Where what a command writes goes: results to stdout, all else to stderr, and the error is the last line of both together."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from relevance_core.registry import Registry
from relevance_core.runs import review
from relevance_core.serving import serve as serving
from relevance_core.stages import evaluate
from relevance_core.store import Store, open_store
from tests.support.command_cases import published, run
from tests.support.loop import command, environment
from tests.support.registry_cases import make_bucket, moto_server, use_server


@pytest.fixture
def registry(store: Store, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry in the store that commands find by RELEVANCE_STORE."""
    monkeypatch.setenv("RELEVANCE_STORE", store.uri)
    return Registry(store)


def started(*arguments: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(*arguments), stdout=stdout, stderr=stderr, env=environment())


def test_the_list_of_versions_is_the_result(registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line a version, the champion with a star, then the releases; nothing on stderr."""
    one, two = published(registry, tmp_path, "QC", "one", "two")
    registry.promote({"QC": two}, who="ada", why="better")
    done = run(capsys, "registry", "list")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].split() == ["task", "version", "created", "base", "languages"]
    by_version = {line.split()[-5]: line for line in lines[1:3]}
    assert by_version.keys() == {one, two}
    assert by_version[one].split() == ["QC", one, "2026-01-31", "tiny@b1", "en", "es"]
    assert by_version[two].split() == ["*", "QC", two, "2026-01-31", "tiny@b1", "en", "es"]
    assert len({line.index("QC") for line in lines[1:3]}) == 1
    assert lines[3] == ""
    assert lines[4].split() == ["release", "at", "QC", "who", "why"]
    assert lines[5].split()[2:] == [two, "ada", "better"]


def test_with_json_stdout_is_one_object(registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The keys are those that there always were, in one line; without --json there is no JSON but a manifest's."""
    (version,) = published(registry, tmp_path)
    for arguments, keys in (
        (["list"], {"tasks", "current", "releases"}),
        (["verify"], {"verified"}),
        (["promote", f"QC={version}", "--why", "w"], set(registry.promote({"QC": version}, who="a", why="b").to_json())),
        (["show", "QC"], set(registry.resolve("QC", version).to_json())),
    ):
        done = run(capsys, "registry", *arguments, "--json")
        assert done.code == 0
        assert done.out.count("\n") == 1
        assert json.loads(done.out).keys() == keys
    shown = run(capsys, "registry", "show", "QC").out
    assert json.loads(shown) == registry.resolve("QC", version).to_json()
    assert shown.count("\n") > 10


def test_what_a_library_prints_is_not_in_the_json(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A print while the command works goes to stderr."""
    published(registry, tmp_path)
    monkeypatch.setattr(Registry, "verify", lambda *arguments: print("noise") or [])  # noqa: T201 - the noise
    done = run(capsys, "registry", "verify", "--json")
    assert json.loads(done.out)["verified"]
    assert "noise" in done.err


def test_what_other_programs_print_is_not_in_the_json(registry: Registry, tmp_path: Path) -> None:
    """A child process and C code print to descriptor 1 while the command works: their lines go to stderr, C's buffer too."""
    published(registry, tmp_path)
    noisy = (
        "import ctypes, subprocess, sys; from relevance_core.cli.main import main; from relevance_core.registry import Registry;"
        "noise = lambda *_: [subprocess.run(['echo', 'of a child'], check=True), ctypes.CDLL(None).puts(b'of C')] and [];"
        "Registry.verify = noise; sys.exit(main(['registry', 'verify', '--json']))"
    )
    done = subprocess.run([sys.executable, "-c", noisy], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["verified"]
    assert {"of a child", "of C"} <= set(done.stderr.splitlines())


def test_a_change_of_what_serves_is_shown(registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The release that promote and rollback made is on stdout."""
    one, two = published(registry, tmp_path, "QC", "one", "two")
    for number, version in ((1, one), (2, two)):
        done = run(capsys, "registry", "promote", f"QC={version}", "--why", "better", "--who", "ada")
        assert done.out.splitlines()[1].split()[0::2] == [f"{number}", version, "better"]
    done = run(capsys, "registry", "rollback", "--task", "QC", "--why", "worse", "--who", "ada")
    assert done.out.splitlines()[1].split()[0::2] == ["3", one, "worse"]


def test_damage_is_the_result_and_the_last_line(registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`verify` shows every version with its problem on stdout, warns on stderr, and ends with the error; --json has no result."""
    good, bad = published(registry, tmp_path, "QC", "good", "bad")
    registry.store.write(f"adapters/qc/{bad}/manifest.json", b"{}")
    done = run(capsys, "registry", "verify")
    assert done.code == 68
    assert f"QC@{good}  intact\n" in done.out
    assert f"QC@{bad}  " in done.out
    assert f"WARNING: QC {bad}: " in done.err
    assert done.last.startswith(f"relevance registry verify: damaged: QC@{bad}; where: ")
    assert run(capsys, "registry", "verify", "--json").out == ""


@pytest.mark.parametrize(
    "arguments", [("registry", "list"), ("registry", "verify"), ("registry", "show", "QC"), ("review", "list")]
)
def test_a_store_that_is_not_there(arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that does not exist is refused by its name, and is not made."""
    missing = tmp_path / "misspelt"
    done = run(capsys, *arguments, "--store", str(missing))
    assert (done.code, done.out) == (66, "")
    assert f"there is no store; where: {missing}; " in done.err
    assert not missing.exists()


def test_a_bucket_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused by its name; a prefix of a bucket that is there is an empty store, of which there is nothing to verify."""
    with moto_server() as endpoint:
        use_server(monkeypatch, endpoint)
        make_bucket(endpoint, "there")
        for arguments in ("list", "verify"):
            done = run(capsys, "registry", arguments, "--store", "s3://misspelt/prefix")
            assert (done.code, done.out) == (74, "")
            assert "the bucket 'misspelt' does not exist" in done.last
        assert run(capsys, "registry", "list", "--store", "s3://there/prefix")[:2] == (0, "")
        assert run(capsys, "registry", "verify", "--store", "s3://there/prefix").code == 66


def test_an_empty_store_lists_nothing_and_verifies_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without versions: `list` ends well and says so on stderr, `verify` fails, since it proved nothing."""
    done = run(capsys, "registry", "list", "--store", str(tmp_path))
    assert (done.code, done.out) == (0, "")
    assert "no version is published in file://" in done.err
    assert json.loads(run(capsys, "registry", "list", "--store", str(tmp_path), "--json").out)["tasks"] == {}
    done = run(capsys, "registry", "verify", "QC", "--store", str(tmp_path))
    assert (done.code, done.out) == (66, "")
    assert "there is no version of QC to verify" in done.last


def test_figures_and_scores_are_results(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate` shows F1 (yes to one of one relevant and one not: 1.0), `score` its file; remarks are on stderr."""
    (version,) = published(registry, tmp_path)
    monkeypatch.setattr(evaluate, "score_with", lambda store, version, rows, *_: pl.Series([0.9, 0.1]))
    rows = tmp_path / "rows.csv"
    rows.write_text("query,category_path,label,task,language\nred shoes,Shoes,1,QC,en\nred shoes,Kitchen,0,QC,en\n")
    done = run(capsys, "evaluate", "--task", "QC", "--data", str(rows))
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0] == f"QC {version} (candidate) at the threshold 0.4000"
    assert [line.split()[:4] for line in lines[2:]] == [["all", "2", "1", "1.0000"], ["en", "2", "1", "1.0000"]]
    assert "nobody has promoted" in done.err
    done = run(capsys, "score", "--task", "QC", "--input", str(rows), "--output", str(tmp_path / "scores.csv"))
    assert done.out.splitlines()[-1] == f"written: {tmp_path / 'scores.csv'}"
    assert pl.read_csv(tmp_path / "scores.csv")["decision"].to_list() == [1, 0]


def test_the_queue_is_a_result(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts by task and the rows, a line each; an export says its file."""
    row = {"pair_id": "0a", "task": "QC", "language": "de", "query": "schuhe\x1b[2J", "target": "Shoes", "label": 1, "score": 0.125}
    frame = pl.DataFrame([row | {"reason": "", "run_id": "r"}], schema=review.QUEUE)
    monkeypatch.setattr(review, "queue", lambda store, task: frame if task == "QC" else frame.clear())
    monkeypatch.setenv("RELEVANCE_STORE", str(tmp_path))
    done = run(capsys, "review", "list")
    assert [line.split() for line in done.out.splitlines()] == [
        ["task", "waiting", "decided", "waiting", "by", "language"], ["QC", "1", "0", "de", "1"], ["QI", "0", "0"], [],
        ["pair_id", "task", "language", "label", "p(yes)", "query", "target"],
        ["0a", "QC", "de", "1", "0.1250", "schuhe\\x1b[2J", "Shoes"],
    ]  # fmt: skip
    done = run(capsys, "review", "export", "--output", str(tmp_path / "queue.csv"))
    assert done.out == f"1 row written to {tmp_path / 'queue.csv'}\n"
    assert "fill in the column `decision`" in done.err


def test_a_server_says_when_it_is_ready(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`serve` prints `ready URL` while it runs; with --json that line is on stderr, and the object alone on stdout."""
    monkeypatch.setattr(serving, "serve", lambda *_: sys.stdout.write("ready http://h\n") and 0)
    assert run(capsys, "serve") == (0, "ready http://h\n", "")
    assert run(capsys, "serve", "--json") == (0, '{"status": 0}\n', "ready http://h\n")


def test_the_settings_are_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/settings.md, nothing else."""
    done = run(capsys, "settings")
    assert done.out.startswith("# Settings\n")
    assert done.err == ""


def test_a_simulated_day_is_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows by table on stdout, as many as the files have; the remark is on stderr."""
    done = run(capsys, "simulate", "--out", str(tmp_path), "--days", "1")
    table = dict(line.split() for line in done.out.splitlines()[1:])
    assert "simulating 1 days from 2026-10-01" in done.err
    assert table["days"] == "1"
    assert int(table["logs"]) == pl.read_parquet(tmp_path / "logs" / "dt=2026-10-01" / "part-0.parquet").height


def test_the_error_is_the_last_line_of_the_merged_output(registry: Registry, tmp_path: Path) -> None:
    """A task of the DAG takes the last line of stdout and stderr together for the cause: it follows what is on stdout."""
    published(registry, tmp_path)
    (key,) = (entry.key for entry in registry.store.list("adapters/") if entry.key.endswith("manifest.json"))
    registry.store.write(key, b"{}")
    process = started("registry", "verify", stderr=subprocess.STDOUT)
    out, _ = process.communicate(timeout=60)
    lines = out.decode().splitlines()
    assert process.returncode == 68
    assert lines[-1].startswith("relevance registry verify: damaged: QC@")
    assert any(line.startswith("version") for line in lines[:-1])


@pytest.mark.parametrize("arguments", [("--help",), ("registry", "list"), ("registry", "list", "--json")])
def test_a_reader_that_goes_away_ends_a_command_quietly(arguments: tuple[str, ...], registry: Registry, tmp_path: Path) -> None:
    """`relevance … | head`: status 141, as of a process that SIGPIPE ends, and not a word on stderr."""
    published(registry, tmp_path)
    process = started(*arguments)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == (b"", 141)
    process.stderr.close()


def test_a_log_that_nobody_reads_stops_no_command(tmp_path: Path) -> None:
    """With stderr closed at its other end the result is there, and a failing command has its own status."""
    process = started("registry", "list", "--store", str(tmp_path), "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stderr.close()
    assert (json.loads(process.stdout.read())["tasks"], process.wait(60)) == ({}, 0)
    process.stdout.close()
    process = started("registry", "list", "--store", str(tmp_path / "none"), stderr=subprocess.STDOUT)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == 66


def test_results_can_be_piped(registry: Registry, tmp_path: Path) -> None:
    """`relevance registry list | grep QC | head -n 1` finds a version, and the pipe ends well; `--version` in a real process."""
    (version,) = published(registry, tmp_path)
    line = f"set -o pipefail; {sys.executable} -m relevance_core registry list | grep QC"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.split()[1] == version
    done = subprocess.run(command("--version"), capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout.startswith("relevance ")


def test_an_interrupt_is_one_line(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Ctrl-C ends a command with 130, and says that what is finished is kept."""
    published(registry, tmp_path)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Registry, "verify", interrupted)
    done = run(capsys, "registry", "verify")
    assert (done.code, done.out) == (130, "")
    assert done.err.startswith("relevance registry verify: interrupted; finished stages are kept")


def test_a_store_is_opened_where_the_command_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--store` goes before RELEVANCE_STORE, and the package's log comes out once however many commands ran in the process."""
    Registry(open_store(str(tmp_path / "b"))).store.write("adapters/none", b"")
    for _ in range(2):
        done = run(capsys, "registry", "list", "--store", str(tmp_path / "b"))
        assert done.err.count("no version is published") == 1
    assert logging.getLogger("relevance_core").level == logging.INFO
