"""The plugin and the guard in a real vLLM server (CPU build) on a small random base: names in, verified adapters' scores out."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import numpy as np
import pytest

from relevance_core.config import ServingSettings
from relevance_core.machine import free_port, require_python
from relevance_core.registry import Manifest
from relevance_core.serving.server import LocalServer, ServerSpec
from relevance_core.serving.wire import Server, payload
from relevance_core.store import open_store
from tests.support.keys import ed25519
from tests.support.serving_cases import BASE, DAMAGED, Bench, save_base

pytestmark = [pytest.mark.serving, pytest.mark.slow]

ANSWERS = (300, 301)
#: Prompts of 20 to 41 random ids, the first 16 shared.
PROMPTS = [[*range(10, 26), *np.random.default_rng(n).integers(0, 600, 4 + 3 * n).tolist()] for n in range(8)]


@dataclass(frozen=True)
class Live:
    """A running server that trusts one key, the registry behind it, and a whole version that it serves."""

    url: str
    bench: Bench
    base: Path
    log: Path
    whole: Manifest
    client: Server

    def lines(self, text: str) -> list[str]:
        """The lines of its log that hold `text`."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if text in line]

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """A request of somebody else's making."""
        return httpx.post(self.url + path, json=body, timeout=60, trust_env=False)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    base = save_base(folder / "base")
    (key, _), (other, _) = ed25519(folder), ed25519(folder, "other")
    bench = Bench(open_store((folder / "store").as_uri()), folder / "made", key, other)
    whole = bench.whole()
    settings = ServingSettings(slots=2, cached=4, verify_key=str(folder / "key.pub"), start_seconds=300)
    spec = ServerSpec(
        store=bench.store.uri, base=BASE, folder=base, host="127.0.0.1", port=free_port(), device="cpu", gpus=0, dtype="float32",
        max_tokens=128, settings=settings, work=folder / "work",
    )  # fmt: skip
    with LocalServer.start(spec, require_python(settings)) as server, Server(spec.url, timeout=60) as client:
        server.wait()
        yield Live(spec.url, bench, base, spec.work / "server.log", whole, client)


def expected(base: Path, adapter: Path) -> np.ndarray[Any, Any]:
    """p(yes) of `PROMPTS` by transformers and peft."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    with torch.no_grad():
        margins = [model(torch.tensor([ids])).logits[0, -1, list(ANSWERS)].double() for ids in PROMPTS]
    return np.array([float(torch.softmax(margin, 0)[0]) for margin in margins])


def test_a_version_is_served_by_its_name(live: Live) -> None:
    """Asked for by name, the adapter is fetched, verified and scored as transformers and peft score it, and listed from then on."""
    scores = live.client.score(live.whole.name, PROMPTS, ANSWERS)
    wanted = expected(live.base, live.bench.folder / "whole-1")
    assert np.ptp(wanted) > 0.1, "the prompts must tell adapters apart"
    assert np.abs(scores - wanted).max() < 1e-5
    assert live.client.base() == BASE.label
    assert live.whole.name in live.client.adapters()
    second = live.bench.whole(2)
    assert (
        np.abs(live.client.score(second.name, PROMPTS, ANSWERS) - expected(live.base, live.bench.folder / "whole-2")).max() < 1e-5
    )


def test_requests_at_once_for_a_new_name(live: Live) -> None:
    """16 clients that are the first to ask for a version all get its scores, and it is loaded once."""
    manifest, barrier = live.bench.whole(3), Barrier(16)

    def ask(_: int) -> np.ndarray[Any, Any]:
        barrier.wait(60)
        return live.client.score(manifest.name, PROMPTS, ANSWERS)

    with ThreadPoolExecutor(16) as pool:
        scores = list(pool.map(ask, range(16)))
    wanted = expected(live.base, live.bench.folder / "whole-3")
    assert max(np.abs(each - wanted).max() for each in scores) < 1e-5
    assert len(live.lines(f"Resolved and loaded LoRA adapter '{manifest.name}'")) == 1


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_version_changes_nothing(live: Live, kind: str) -> None:
    """Each of twelve kinds is refused with 404 and one line in the log; the live adapter's scores stay the same to the bit."""
    name, (make_it, cause) = live.whole.name, DAMAGED[kind]
    for _ in range(2):  # the second computes from cached prefixes, as all later ones do
        before = live.client.score(name, PROMPTS, ANSWERS)
    damaged = make_it(live.bench)
    answer = live.post("/v1/completions", payload(damaged, PROMPTS, ANSWERS))
    assert answer.status_code == 404
    assert np.array_equal(live.client.score(name, PROMPTS, ANSWERS), before)
    lines = live.lines(damaged)
    assert len([line for line in lines if "refused" in line]) == 1, lines
    if kind == "path traversal in a name":
        assert "is no version of an adapter" in answer.json()["error"]["message"]
    else:
        assert re.search(cause, lines[0])
    assert damaged not in live.client.adapters()


def test_the_base_model_is_not_scored(live: Live) -> None:
    """By the name that the server lists, by its folder and by no name: the CPU build might answer with an adapter."""
    whole = payload(live.whole.name, PROMPTS, ANSWERS)
    for model in (live.client.base(), str(live.base), ""):
        answer = live.post("/v1/completions", whole | {"model": model})
        assert answer.status_code == 404
        assert "the base model is not scored" in answer.json()["error"]["message"]
    unnamed = {key: value for key, value in whole.items() if key != "model"}
    assert live.post("/v1/completions", unnamed).status_code == 400
    for path in ("/v1/chat/completions", "/generative_scoring", "/inference/v1/generate", "/invocations"):
        assert live.post(path, whole).status_code == 404


def test_nothing_is_loaded_by_path(live: Live) -> None:
    """A whole adapter on the server's own disk is refused too, under a new name and in place of the live one."""
    before = live.client.score(live.whole.name, PROMPTS, ANSWERS)
    for name in ("relevance-qc@" + "f" * 16, live.whole.name):
        body = {"lora_name": name, "lora_path": str(live.bench.folder / "whole-1"), "load_inplace": True}
        assert live.post("/v1/load_lora_adapter", body).status_code == 403
    assert np.array_equal(live.client.score(live.whole.name, PROMPTS, ANSWERS), before)


def test_without_settings_the_plugin_does_nothing() -> None:
    """A vLLM that was not started by `relevance serve` gets no resolver, and a line that says so."""
    code = "from vllm.plugins import load_general_plugins as load; from vllm.lora.resolver import LoRAResolverRegistry as known\n"
    code += "load(); print(list(known.get_supported_resolvers()))"
    variables = {key: value for key, value in os.environ.items() if key != "RELEVANCE_SERVING"} | {"VLLM_PLUGINS": "relevance"}
    command = [str(require_python(ServingSettings())), "-c", code]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]"
    assert (done.stdout + done.stderr).count("the plugin relevance does nothing: RELEVANCE_SERVING is not set") == 1


def test_more_versions_than_the_cache_holds(live: Live) -> None:
    """The engine reads an adapter's folder again when it has left its memory, and would die without it: the folder is there."""
    before = live.client.score(live.whole.name, PROMPTS, ANSWERS)
    for seed in range(30, 36):
        live.client.score(live.bench.whole(seed).name, PROMPTS, ANSWERS)
    assert np.abs(live.client.score(live.whole.name, PROMPTS, ANSWERS) - before).max() < 1e-6
    assert live.client.healthy()


def test_an_unloaded_version_comes_back_by_itself(live: Live) -> None:
    """Unloading is open; whoever asks for the version again gets the same scores."""
    before = live.client.score(live.whole.name, PROMPTS, ANSWERS)
    live.client.unload(live.whole.name)
    assert live.whole.name not in live.client.adapters()
    assert np.abs(live.client.score(live.whole.name, PROMPTS, ANSWERS) - before).max() < 1e-6
    assert json.loads(live.post("/v1/unload_lora_adapter", {"lora_name": "/etc"}).text)["error"]["code"] == 404
