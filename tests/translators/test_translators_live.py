"""A translation model on a real vLLM server (the CPU build): what is asked of it, and what a server's death costs."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import polars as pl
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from relevance_core.config import ServingSettings
from relevance_core.errors import ServingError
from relevance_core.machine import free_port, kill_group, require_python
from relevance_core.serving.server import CPU_DEFAULTS, IN_ENGINE
from relevance_core.store import Store
from relevance_core.translators import EndpointTranslator, Machine, translate_and_remember
from tests.support.completions import Recorder
from tests.support.serving_cases import save_base

pytestmark = [pytest.mark.serving, pytest.mark.slow]

MODEL = "seed-x"
THINGS, SORTS = ("zapatos", "botas", "camisa", "gorra"), ("rojo", "azul", "3", "de lana")
TEXTS = sorted(f"{thing} {sort}" for thing in THINGS for sort in SORTS)
TOKENS, BATCH = 48, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random causal model of two layers."""
    return save_base(tmp_path_factory.mktemp("model"))


class Vllm:
    """A running vLLM of a model, without adapters."""

    def __init__(self, folder: Path, port: int, log: Path) -> None:
        words: list[object] = [require_python(ServingSettings()), "-m", "relevance_core.serving.launch", "--model", folder]
        words += ["--served-model-name", MODEL, "--host", "127.0.0.1", "--port", port, "--generation-config", "vllm"]
        words += ["--dtype", "float32", "--max-model-len", 512, "--block-size", 32, "--enforce-eager"]
        words += ["--distributed-executor-backend", IN_ENGINE]
        own = {**CPU_DEFAULTS, "VLLM_NO_USAGE_STATS": "1", "VLLM_PLUGINS": ""}
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [str(word) for word in words],
                env=os.environ | own,
                stdin=subprocess.PIPE,  # held open: launch.py ends the server with this process
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        self.log, self.url = log, f"http://127.0.0.1:{port}"

    def wait(self) -> None:
        deadline = time.monotonic() + 400
        while not self._healthy():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.5)

    def _healthy(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", trust_env=False).is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        if self.process.returncode is None:  # once: the number of a group that has ended may become another's
            kill_group(self.process.pid)
            self.process.wait()
            assert self.process.stdin is not None
            self.process.stdin.close()


@contextmanager
def running(folder: Path, port: int, log: Path) -> Iterator[Vllm]:
    server = Vllm(folder, port, log)
    try:
        server.wait()
        yield server
    finally:
        server.kill()


def greedy(folder: Path, prompt: str) -> str:
    """The likeliest continuation by transformers, up to the end of the line."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False)
    return str(tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)).split("\n")[0]


def test_a_server_that_dies_costs_nothing_that_it_answered(
    model: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM is killed in the third of four requests: what it answered is remembered, the next one is asked for the rest alone, and
    each text is translated once, from Seed-X's prompt to the letter, by the likeliest tokens."""
    monkeypatch.setattr(EndpointTranslator, "batch", BATCH)
    monkeypatch.setattr(EndpointTranslator, "pauses", (0.2, 0.2))
    port, texts = free_port(), pl.Series(TEXTS)
    with Recorder(f"http://127.0.0.1:{port}") as recorder:
        translator = EndpointTranslator(MODEL, "main", TOKENS, Machine(ServingSettings(translators=(recorder.url,))))
        with running(model, port, tmp_path / "first.log") as first:
            recorder.meanwhile = {3: first.kill}
            with pytest.raises(ServingError, match="of the 16 texts are in the translation memory") as broken_off:
                translate_and_remember(translator, store, texts, "es", "de")
        answered = len(recorder.answers)
        assert 2 * BATCH <= answered < len(TEXTS)
        assert f"{answered} of the 16" in broken_off.value.what
        with running(model, port, tmp_path / "second.log"):
            known, hits = translate_and_remember(translator, store, texts, "es", "de")
        assert (hits, len(known)) == (answered, len(TEXTS))
        asked = len(recorder.bodies)
        again, hits = translate_and_remember(translator, store, texts, "es", "de")
        assert (hits, len(recorder.bodies)) == (len(TEXTS), asked)
        assert again.equals(known)
    prompts = [f"Translate the following Spanish sentence into German:\n{text} <de>" for text in TEXTS]
    assert sorted(prompt for prompt, _ in recorder.answers) == sorted(prompts)
    settings = {"model": MODEL, "max_tokens": TOKENS, "temperature": 0, "stop": ["\n"]}
    assert all({name: value for name, value in body.items() if name != "prompt"} == settings for body in recorder.bodies)
    for prompt, said in recorder.answers[::5]:
        assert readable(said) == readable(greedy(model, prompt)) != ""


def readable(text: str) -> str:
    """A random model's text without what is no character: the ends of such are not written alike everywhere."""
    return re.sub("\ufffd", "", text)
