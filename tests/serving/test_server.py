"""How a vLLM server is started, watched and ended; a stand-in for vLLM shows what a real one can't be made to do."""

from __future__ import annotations

import json
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from relevance_core import machine
from relevance_core.cli import main
from relevance_core.config import ServingSettings
from relevance_core.errors import ModelError, NotFound, ServingError, SettingsError
from relevance_core.machine import free_port, python_of
from relevance_core.registry import BaseInfo, Manifest, Registry
from relevance_core.serving import serve, server
from relevance_core.serving.serve import Plan, champions_on, to_serve
from relevance_core.serving.server import LocalServer, ServerSpec, command, environment, spec_for
from relevance_core.store import Store
from tests.support.registry_cases import make_adapter, make_meta

BASE = BaseInfo(id="builtin:tiny@0123", digest="0123")
CONFIG = {"num_attention_heads": 40, "num_key_value_heads": 8, "max_position_embeddings": 40960}

#: What stands in for vLLM's API server; `{body}` is what it does.
STAND_IN = """
import http.server, os, signal, subprocess, sys, time

class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if self.path == "/v1/models":
            self.wfile.write(b'{{"data": [{{"id": "tiny@b1", "parent": null}}]}}')

    def log_message(self, *words):
        pass

def serve():
    port = int(sys.argv[sys.argv.index("--port") + 1])
    http.server.HTTPServer(("127.0.0.1", port), Healthy).serve_forever()

{body}
"""


@pytest.fixture
def spec(tmp_path: Path) -> ServerSpec:
    return ServerSpec(
        store="s3://bucket/prefix",
        base=BASE,
        folder=tmp_path / "base",
        host="127.0.0.1",
        port=free_port(),
        device="cpu",
        gpus=0,
        dtype="float32",
        max_tokens=512,
        settings=ServingSettings(start_seconds=20, max_rank=24, slots=4, cached=8),
        work=tmp_path / "work",
    )


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a vLLM on the servers' path whose API server does `body`."""

    def make(body: str) -> None:
        package = tmp_path / "stand-in" / "vllm" / "entrypoints" / "openai"
        package.mkdir(parents=True)
        for folder in (package, *package.parents[:2]):
            (folder / "__init__.py").touch()
        (package / "api_server.py").write_text(STAND_IN.format(body=body))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "stand-in"))

    return make


def flags(words: list[str]) -> dict[str, str]:
    """Each flag of a command line with its value."""
    return {word: value for word, value in zip(words, [*words[1:], ""], strict=True) if word.startswith("--")}


def wait_for(what: Callable[[], bool], seconds: float = 20) -> None:
    """Returns when it is so."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def test_command_on_a_cpu(spec: ServerSpec) -> None:
    """On a CPU the blocks are short enough for a prompt's prefix to be found, and the name served is the base's label."""
    words = command(spec, Path("/env/bin/python"))
    found = flags(words)
    assert words[:3] == ["/env/bin/python", "-m", "relevance_core.serving.launch"]
    assert found["--model"] == str(spec.folder)
    assert found["--served-model-name"] == "builtin:tiny@0123"
    assert (found["--host"], found["--port"]) == ("127.0.0.1", str(spec.port))
    assert (found["--dtype"], found["--max-model-len"], found["--block-size"]) == ("float32", "512", "32")
    assert found["--distributed-executor-backend"].endswith(".UniProcExecutor")
    assert (found["--max-lora-rank"], found["--max-loras"], found["--max-cpu-loras"]) == ("32", "4", "8")
    assert found["--middleware"] == "relevance_core.serving.guard.Guard"
    assert "--enable-lora" in found
    assert "--enable-prefix-caching" in found
    assert "--tensor-parallel-size" not in found
    assert "--api-server-count" not in found


@pytest.mark.parametrize(("rank", "limit"), [(1, 8), (8, 8), (9, 16), (257, 320), (513, 512)])
def test_a_rank_is_rounded_to_a_value_of_vllm(rank: int, limit: int) -> None:
    """vLLM takes few values as the largest rank: the next one allows the rank, and above the highest vLLM itself refuses."""
    assert machine.lora_limit(rank) == limit


@pytest.mark.parametrize("gpus", [1, 4])
def test_command_on_gpus(spec: ServerSpec, gpus: int) -> None:
    """On GPUs the model is shared among them, and flags of the operator come last, where vLLM lets them win."""
    spec = replace(spec, device="cuda", gpus=gpus, dtype="bfloat16", flags=("--gpu-memory-utilization", "0.45"))
    words = command(spec, Path("/env/bin/python"))
    found = flags(words)
    assert (found["--tensor-parallel-size"], found["--dtype"]) == (str(gpus), "bfloat16")
    assert words[-2:] == ["--gpu-memory-utilization", "0.45"]
    assert found.keys().isdisjoint({"--block-size", "--distributed-executor-backend"})


def test_more_adapters_computed_with_than_kept(spec: ServerSpec) -> None:
    """vLLM refuses fewer adapters in memory than it computes with, so the larger of both settings counts."""
    spec = replace(spec, settings=ServingSettings(slots=8, cached=2))
    assert flags(command(spec, Path("python")))["--max-cpu-loras"] == "8"


def test_environment_on_a_cpu(spec: ServerSpec) -> None:
    """The server keeps the store's credentials, loads this plugin alone, and is told all that the plugin needs."""
    key = replace(spec, settings=ServingSettings(verify_key="~/key.pem"))
    found = environment(key, {"AWS_ACCESS_KEY_ID": "a", "VLLM_CPU_KVCACHE_SPACE": "40", "VLLM_PLUGINS": "other"})
    assert found["AWS_ACCESS_KEY_ID"] == "a"
    assert (found["VLLM_PLUGINS"], found["VLLM_ALLOW_RUNTIME_LORA_UPDATING"]) == ("relevance", "True")
    assert (found["HF_HUB_OFFLINE"], found["VLLM_NO_USAGE_STATS"]) == ("1", "1")
    assert (found["VLLM_CPU_KVCACHE_SPACE"], found["VLLM_CPU_NUM_OF_RESERVED_CPU"]) == ("40", "0")
    assert (found["VLLM_CPU_OMP_THREADS_BIND"], found["TORCHDYNAMO_DISABLE"]) == ("nobind", "1")
    assert json.loads(found["RELEVANCE_SERVING"]) == {
        "dtype": "float32",
        "store": "s3://bucket/prefix",
        "base": {"id": "builtin:tiny@0123", "digest": "0123", "revision": "", "uri": ""},
        "base_folder": str(spec.folder),
        "cache": str(spec.work / "adapters"),
        "max_rank": 32,
        "cached": 8,
        "verify_key": str(Path.home() / "key.pem"),
    }


def test_environment_on_gpus(spec: ServerSpec) -> None:
    """Nothing of the CPU build's is set for a GPU."""
    found = environment(replace(spec, device="cuda", gpus=2), {})
    assert not [name for name in found if name.startswith(("VLLM_CPU", "VLLM_WORKER"))]
    assert json.loads(found["RELEVANCE_SERVING"])["verify_key"] == ""


def test_a_named_interpreter_must_be_there(tmp_path: Path) -> None:
    """A missing interpreter is named; one that is there is taken without being run."""
    with pytest.raises(SettingsError, match="nowhere/python"):
        python_of(ServingSettings(python=str(tmp_path / "nowhere/python")))
    (tmp_path / "python").touch()
    assert python_of(ServingSettings(python=str(tmp_path / "python"))) == tmp_path / "python"


def test_the_environment_beside_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without vLLM here, auto is `.venv-serving` beside it; without that it is none, and `relevance serve` says what to do."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    assert python_of(ServingSettings()) is None
    with pytest.raises(SettingsError, match="make install-serving"):
        machine.require_python(ServingSettings())
    beside = tmp_path / ".venv-serving" / "bin" / "python"
    beside.parent.mkdir(parents=True)
    beside.touch()
    assert python_of(ServingSettings()) == beside


@pytest.mark.parametrize(("gpus", "used"), [(1, 1), (2, 2), (3, 2), (4, 4), (6, 4), (7, 4), (8, 8)])
def test_gpus_that_a_model_fits(tmp_path: Path, gpus: int, used: int) -> None:
    """Qwen3-14B has 40 heads over 8 groups of keys: 2, 4 or 8 GPUs share them evenly, 5 don't."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert machine.parallel_of(tmp_path, gpus) == used


def published(store: Store, folder: Path, base: BaseInfo) -> Manifest:
    """A version of QC on a base."""
    return Registry(store).publish("QC", make_adapter(folder), make_meta(base=base))


def test_spec_of_a_version(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version's server runs its base from a local folder, in float32 on a CPU, with room for its longest prompt."""
    monkeypatch.setattr(server, "gpus_of", lambda python: 0)
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps(CONFIG))
    version = published(store, tmp_path / "adapter", BaseInfo(id="tiny", digest="b1", uri=str(base)))
    settings = ServingSettings(python=sys.executable)
    spec = spec_for(store, [version], settings, port=8123)
    assert (spec.folder, spec.device, spec.gpus, spec.dtype, spec.max_tokens) == (base, "cpu", 0, "float32", 512)
    assert (spec.store, spec.base.label, spec.url) == (store.uri, "tiny@b1", "http://127.0.0.1:8123")
    assert spec.temporary
    with pytest.raises(SettingsError, match="at most 0"):
        spec_for(store, [version], settings, port=8123, gpus=2)
    monkeypatch.setattr(server, "gpus_of", lambda python: 6)
    spec = spec_for(store, [version], settings, port=8123, work=tmp_path / "work")
    assert (spec.device, spec.gpus, spec.dtype, spec.temporary) == ("cuda", 4, "bfloat16", False)
    assert spec_for(store, [version], settings, port=8123, gpus=0, work=tmp_path).device == "cpu"


def test_a_base_that_is_not_on_this_machine(store: Store, tmp_path: Path) -> None:
    """A base that was never fetched is named, with the command that fetches it; nothing is downloaded on the way."""
    version = published(store, tmp_path / "adapter", BaseInfo(id="tiny", revision="r1", uri="nobody/has-this"))
    with pytest.raises(ModelError, match="hf download nobody/has-this --revision r1"):
        spec_for(store, [version], ServingSettings(python=sys.executable), port=8123)


def test_a_server_that_comes_up(spec: ServerSpec, stand_in: Callable[[str], None], caplog: pytest.LogCaptureFixture) -> None:
    """A server is waited for, and ends with all that it wrote kept in a file."""
    stand_in("print('hello', flush=True)\nserve()")
    caplog.set_level("INFO", "relevance_core")
    with LocalServer.start(spec, Path(sys.executable)) as running_server:
        running_server.wait()
        assert running_server.alive()
        assert "up on http://127.0.0.1" in caplog.messages[-1]
        assert main(["ready", "--endpoint", running_server.url]) == 0
        assert running_server.stop() == -signal.SIGTERM
        assert not running_server.alive()
    assert (spec.work / "server.log").read_text().startswith("hello")
    assert main(["ready", "--endpoint", running_server.url]) == ServingError.exit_code


def test_a_server_that_dies(spec: ServerSpec, stand_in: Callable[[str], None]) -> None:
    """A server that dies while it starts is reported with its status and the last lines that it wrote, not the first."""
    stand_in("for n in range(99):\n    print('line', n)\nsys.exit('no room for the weights')")
    with LocalServer.start(spec, Path(sys.executable)) as dying, pytest.raises(ServingError, match="no room") as error:
        dying.wait()
    assert "status 1" in str(error.value)
    assert "line 98" in str(error.value)
    assert "line 9\n" not in str(error.value)


def test_a_server_that_is_too_slow(spec: ServerSpec, stand_in: Callable[[str], None]) -> None:
    """A server that is not healthy within `start_seconds` is given up, and its process with it."""
    stand_in("time.sleep(600)")
    spec = replace(spec, settings=ServingSettings(start_seconds=0.2), temporary=True)
    slow = LocalServer.start(spec, Path(sys.executable))
    with slow, pytest.raises(ServingError, match=r"not ready within 0\.2 s"):
        slow.wait()
    assert machine.members(slow.pid) == []
    assert not spec.work.exists()


def test_a_group_is_killed_whole(spec: ServerSpec, stand_in: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ignores SIGTERM is killed with the processes that it started."""
    monkeypatch.setattr(server, "STOP_SECONDS", 0.2)
    stand_in("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsubprocess.Popen(['sleep', '600'])\nserve()")
    stubborn = LocalServer.start(spec, Path(sys.executable))
    stubborn.wait()
    assert len(machine.members(stubborn.pid)) == 2
    assert stubborn.stop() == -signal.SIGKILL
    assert machine.members(stubborn.pid) == []


def test_a_server_ends_with_its_starter(spec: ServerSpec, stand_in: Callable[[str], None], tmp_path: Path) -> None:
    """When the process that started a server is killed, the server does not stay behind."""
    stand_in("serve()")
    script = (
        "import pickle, sys, time\n"
        "from pathlib import Path\n"
        "from relevance_core.serving.server import LocalServer\n"
        f"server = LocalServer.start(pickle.loads(Path({str(tmp_path / 'spec')!r}).read_bytes()), Path(sys.executable))\n"
        "server.wait()\n"
        "print(server.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    (tmp_path / "spec").write_bytes(pickle.dumps(spec))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert pid in machine.members(pid)
        starter.kill()
    wait_for(lambda: pid not in machine.members(pid))


def test_a_port_that_is_taken(spec: ServerSpec) -> None:
    """A free port can be listened on; a server is not started where another would answer in its place."""
    with socket.create_server(("127.0.0.1", spec.port)), pytest.raises(ServingError, match=f"127.0.0.1:{spec.port}"):
        LocalServer.start(spec, Path(sys.executable))
    assert free_port() != spec.port


@pytest.fixture
def two_bases(store: Store, tmp_path: Path) -> Registry:
    """QC and QI serve on the base tiny@b1; a second version of each is on tiny@b2."""
    registry = Registry(store)
    folder = make_adapter(tmp_path / "adapter")
    for digest in ("b1", "b2"):
        versions = {
            task: registry.publish(task, folder, make_meta(base=BaseInfo(id="tiny", digest=digest))) for task in ("QC", "QI")
        }
        if digest == "b1":
            registry.promote({task: one.version for task, one in versions.items()}, who="a test", why="a test")
    return registry


def on(registry: Registry, task: str, label: str) -> Manifest:
    return next(one for one in registry.versions(task) if one.base.label == label)


def test_what_a_server_is_started_for(two_bases: Registry) -> None:
    """By default the champions; by a version's name it and the champions of its base: of a base to come, it alone."""
    champions = [on(two_bases, "QC", "tiny@b1"), on(two_bases, "QI", "tiny@b1")]
    coming = on(two_bases, "QC", "tiny@b2")
    assert to_serve(two_bases, Plan()) == champions
    assert to_serve(two_bases, Plan(base=f"QI@{champions[1].version}")) == champions[::-1]
    assert to_serve(two_bases, Plan(base=coming.name)) == [coming]
    assert champions_on(two_bases, "tiny@b2") == []
    with pytest.raises(SettingsError, match="nonsense"):
        to_serve(two_bases, Plan(base="nonsense"))


def test_champions_on_several_bases(two_bases: Registry) -> None:
    """Where the tasks serve on different bases, a server must be told which one it runs, and the message names what to give."""
    version = on(two_bases, "QI", "tiny@b2").version
    two_bases.promote({"QI": version}, who="a test", why="a test")
    with pytest.raises(SettingsError, match=f"QC on tiny@b1, QI on tiny@b2.*--base QI@{version}"):
        to_serve(two_bases, Plan())
    assert [one.name for one in to_serve(two_bases, Plan(task="QI"))] == [f"relevance-qi@{version}"]


def test_nothing_serves_yet(store: Store) -> None:
    """Before the first release there is no base to run."""
    with pytest.raises(NotFound, match="--base TASK@VERSION"):
        to_serve(Registry(store), Plan())


@pytest.mark.parametrize("looks_between", [0, 1])
def test_a_server_of_a_replaced_base_ends(two_bases: Registry, looks_between: int) -> None:
    """It ends when the release on its base has been gone back from, also when that came and went between two looks; before any
    release stands on its base it waits.
    """
    coming, back = on(two_bases, "QC", "tiny@b2"), on(two_bases, "QC", "tiny@b1")
    looks: list[int] = []

    class Running:
        spec = SimpleNamespace(base=coming.base, settings=ServingSettings(drain_seconds=0, staleness_seconds=0.1))

        def alive(self) -> bool:
            """Asked once a round: the releases move in the third one, and in the one after `looks_between` further rounds."""
            looks.append(1)
            if len(looks) == 3:
                two_bases.promote({"QC": coming.version}, who="a test", why="a test")
            if len(looks) == 3 + looks_between:
                two_bases.promote({"QC": back.version}, who="a test", why="a test")
            return len(looks) < 20

    serve._watch(cast("LocalServer", Running()), two_bases, Plan(until_replaced=True), 1, poll_seconds=0, look_seconds=0)
    assert len(looks) == 3 + looks_between


@pytest.mark.parametrize(
    ("plan", "address"),
    [
        (Plan(port=81), "http://127.0.0.1:81"),
        (Plan(host="0.0.0.0"), f"http://{socket.gethostname()}:8000"),  # noqa: S104 - nothing is bound
        (Plan(advertise="http://vllm:8000"), "http://vllm:8000"),
        (Plan(advertise=""), ""),
    ],
)
def test_the_address_that_others_are_told(plan: Plan, address: str) -> None:
    """An address to listen on everywhere is none to be reached by: the host's name is."""
    assert plan.address == address
