"""The scoring engine: its shortcuts change no score and no gradient, and its batches follow from the model and the memory."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import gpu
from relevance_core.config import EngineSettings, Settings
from relevance_core.errors import ModelError
from relevance_core.models.base_ref import BaseRef
from relevance_core.models.lm import last_hidden, load_base, pad, shared_start
from relevance_core.models.shortcuts import start_of
from relevance_core.models.trainer import PROJECTIONS, save_adapter
from relevance_core.prompts import PairText, Prompt
from relevance_core.scoring import scorer as scorer_module
from relevance_core.scoring.opened import machine_of, open_adapter
from relevance_core.scoring.scorer import Scorer, batch_end, token_budget
from relevance_core.scoring.vllm_pass import margin
from relevance_core.scoring.vllm_scorer import VllmScorer
from tests.support.models_fixture import make_model, save_base
from tests.support.places import PROJECT
from tests.support.serving_cases import save_base as save_served_base

PROMPT = Prompt("instruction", 1, True, 400)
WORDS = ("red", "blauer", "leather", "steel", "zapatos azules", "750 ml", "running shoes")
ROWS: list[PairText] = [
    ("QC", " ".join(WORDS[: 1 + i % 7]), " > ".join(WORDS[i % 5 :]), "coat" if i % 3 == 0 else None) for i in range(40)
]
START = list(range(30, 50))
IDS, LENGTHS = pad([[*START, 7], [*START, 9, 8, 7, 6], [*START, 1, 2]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


def llama() -> Any:
    """Two layers of 32, four heads on two of keys."""
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=450,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config)


def states_and_gradients(model: Any, shared: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The last states of `IDS`, and all gradients of the sum of their squares."""
    model.zero_grad()
    states = last_hidden(model, IDS, LENGTHS, shared)
    states.pow(2).sum().backward()
    return states.detach(), torch.cat([tensor.grad.flatten() for tensor in model.parameters() if tensor.grad is not None])


@pytest.mark.parametrize("make", [lambda: make_model(450), llama], ids=["qwen3", "llama"])
@pytest.mark.parametrize("shared", [0, 20])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_shortcuts_keep_states_and_gradients(make: Any, shared: int, checkpointing: bool) -> None:
    """The shared start and the narrow last block give the states and gradients of transformers' own forward, relative 1e-5."""
    model = make().train()
    plain = model.base_model(input_ids=IDS, use_cache=False).last_hidden_state[torch.arange(3), LENGTHS - 1]
    plain.pow(2).sum().backward()
    gradients = torch.cat([tensor.grad.flatten() for tensor in model.parameters() if tensor.grad is not None])
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    states, ours = states_and_gradients(model, shared)
    assert (states - plain).abs().max() < 1e-5 * plain.abs().max()
    assert (ours - gradients).abs().max() < 1e-5 * gradients.abs().max()


def test_masks_still_count_after_a_shared_start() -> None:
    """A model that has shared a start once still ignores tokens that an attention mask hides."""
    model = make_model(450).eval()
    start_of(model, IDS[:1, :20])
    mask = torch.ones_like(IDS)
    mask[0, 21:] = 0
    hidden, other = IDS.clone(), IDS.clone()
    other[0, 21:] = 77
    with torch.no_grad():
        logits = [model(input_ids=ids, attention_mask=mask).logits[:, 20] for ids in (hidden, other)]
        left = model(input_ids=IDS[:1].flip(1), attention_mask=torch.tensor([[0] * 4 + [1] * 20])).logits[0, -1]
        alone = model(input_ids=IDS[:1].flip(1)[:, 4:]).logits[0, -1]
    assert torch.equal(*logits)
    assert torch.allclose(left, alone, atol=1e-4)


def test_attention_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that never asks transformers' interface for its attention can't share a start, and that is an error."""
    model = make_model(450)
    monkeypatch.setattr(type(model), "set_attn_implementation", lambda *_: None)
    with pytest.raises(ModelError, match="attention can't be replaced"):
        start_of(model, IDS[:1, :20])


def test_blocks_of_another_kind_are_refused() -> None:
    """A model whose last block has no mlp is an error that says so."""
    model = make_model(450)
    del model.model.layers[-1].mlp
    with pytest.raises(ModelError, match=r"blocks are of another kind: .*mlp"):
        last_hidden(model, IDS, LENGTHS)


class InBatches(Scorer):
    """A scorer whose batches have this many tokens beside their start."""

    def __init__(self, tokens: int, *about: Any) -> None:
        super().__init__(*about)
        self.tokens = tokens

    def budget(self, longest: int) -> int:
        return self.tokens


def test_a_pass_computes_the_start_once(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 prompts in batches of 60 tokens compute the keys and values of their start in one call."""
    calls: list[int] = []
    counted = scorer_module.start_of
    monkeypatch.setattr(scorer_module, "start_of", lambda model, ids: calls.append(ids.shape[1]) or counted(model, ids))
    scorer = InBatches(60, base, None, PROMPT, EngineSettings(device="cpu"))
    scorer.score(ROWS)
    assert calls == [shared_start(scorer.encode(ROWS))]


def test_the_batches_change_no_score(base: Path) -> None:
    """One prompt at a time or all at once: no score moves by more than 1e-5."""
    scorers = [InBatches(tokens, base, None, PROMPT, EngineSettings(device="cpu")) for tokens in (1, 10**6)]
    scores = [scorer.score(ROWS) for scorer in scorers]
    assert np.abs(scores[0] - scores[1]).max() < 1e-5
    assert scores[0].std() > 1e-3


def test_a_batch_takes_what_the_budget_allows_padded() -> None:
    """Of prompts of 3, 40, 40 and 50 tokens 120 tokens take three; a prompt longer than the budget stands alone."""
    lengths = [3, 40, 40, 50]
    assert batch_end(lengths, 0, 120) == 3
    assert batch_end(lengths, 0, 119) == 2
    assert batch_end(lengths, 3, 120) == 4
    assert batch_end(lengths, 0, 1) == 1


def test_the_budget_follows_from_shape_and_memory() -> None:
    """CPU: 16 MiB by a block's bytes a token, 1,024 to 2,048; GPU: half of what is free by those and attention's, up to 32,768."""
    config = make_model(450).config
    config.hidden_size, config.intermediate_size, config.num_attention_heads = 256, 768, 8
    assert token_budget(config, 4, 100, None) == 16 * 2**20 // (4 * (4 * 256 + 3 * 768)) == 1260
    assert token_budget(config, 2, 100, None) == 2048
    assert token_budget(config, 2, 100, 2 * 13_056_000) == 1000  # 6,656 bytes of a block and 8 × 100 × 8 of attention a token
    assert token_budget(config, 2, 100, 2**40) == 32768
    config.hidden_size, config.intermediate_size = 5120, 17408
    assert token_budget(config, 4, 100, None) == 1024


class _SmallGpu(Scorer):
    """A scorer whose batches run out of memory above `most` prompts."""

    most = 3

    def _batch(self, prompts: Any, shared: int, start: Any) -> Any:
        if len(prompts) > self.most:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return super()._batch(prompts, shared, start)


def test_memory_that_runs_out_halves_the_batches(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A GPU that takes three prompts at a time gives the same scores, and it is said once; one that takes none is an error."""
    caplog.set_level("INFO", "relevance_core")
    engine = EngineSettings(device="cpu")
    scores = _SmallGpu(base, None, PROMPT, engine).score(ROWS)
    assert np.abs(scores - Scorer(base, None, PROMPT, engine).score(ROWS)).max() < 1e-5
    assert caplog.messages == ["the GPU's memory ran out at 40 prompts: going on with smaller batches"]
    hopeless = _SmallGpu(base, None, PROMPT, engine)
    hopeless.most = 0
    with pytest.raises(ModelError, match="does not take a single prompt"):
        hopeless.score(ROWS)


def test_bfloat16_stays_within_its_bound(base: Path) -> None:
    """base.dtype=bfloat16 moves p(yes) of random weights by less than the 3e-2 that servers are held to, and by something."""
    exact, half = (Scorer(base, None, PROMPT, EngineSettings(device="cpu"), dtype=dtype) for dtype in ("float32", "bfloat16"))
    apart = np.abs(exact.score(ROWS) - half.score(ROWS)).max()
    assert 0 < apart < 3e-2


@pytest.mark.serving
@pytest.mark.slow
def test_vllm_gives_the_scores_of_transformers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The offline engine, with an adapter whose every matrix is random, agrees with the scorer to 1e-3."""
    folder = save_served_base(tmp_path / "base")
    adapter = random_adapter(folder, tmp_path / "adapter")
    caplog.set_level("INFO", "relevance_core")
    base = BaseRef("random", str(folder), dtype="float32")
    settings = Settings(engine={"scorer": "vllm", "device": "cpu"})
    scorer = open_adapter(base, adapter, PROMPT, machine_of(settings)).scorer
    assert isinstance(scorer, VllmScorer)
    exact = open_adapter(base, adapter, PROMPT, machine_of(Settings(engine={"device": "cpu"}))).scorer.score(ROWS)
    assert np.abs(scorer.score(ROWS) - exact).max() < 1e-3
    assert exact.std() > 1e-2
    assert caplog.messages[0] == "vLLM starts, to score 40 prompts"


def random_adapter(base: Path, folder: Path) -> Path:
    """An adapter of rank 4 none of whose matrices is zero."""
    torch.manual_seed(3)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=list(PROJECTIONS), init_lora_weights=False)
    save_adapter(get_peft_model(load_base(base)[0], config), "random", folder)
    return folder


def test_a_pass_that_fails_says_what_vllm_wrote(base: Path, tmp_path: Path) -> None:
    """An interpreter that ends with an error is a ModelError with its last words; nothing to score starts none."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho there is no room for the model >&2\nexit 3\n")
    python.chmod(0o755)
    scorer = VllmScorer(BaseRef("random", str(base)), None, PROMPT, python)
    assert scorer.score([]).shape == (0,)
    with pytest.raises(ModelError, match=r"(?s)vLLM ended with code 3.*no room for the model"):
        scorer.score(ROWS)


def test_the_margin_of_an_answer() -> None:
    """log 0.6 against log 0.2 are log 3 apart."""
    said = {7: SimpleNamespace(logprob=math.log(0.6)), 9: SimpleNamespace(logprob=math.log(0.2))}
    assert margin(said, 7, 9) == pytest.approx(math.log(3))


def test_the_gpu_benchmark_counts_what_is_computed() -> None:
    """Qwen3 of 32 × 2: two prompts of 22 and 24 tokens that share 20 are 20 + 2 + 4 tokens, worked out by hand."""
    work = gpu.Work.of(make_model(450))
    block = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64  # q, k and v, o, the MLP
    late = 32 * 32 + 3 * 32 * 64
    assert (work.linear, work.last, work.looks, work.head) == (2 * block, late, 4 * 2 * 2 * 16, 32 * 450)
    assert work.lora == 32 * 2 * (2 * 64 + 2 * 48 + 3 * 96)
    looked = 20 * 20 / 2 + (22 * 22 - 20 * 20) / 2 + (24 * 24 - 20 * 20) / 2
    # The last block's late part is computed for the start's pass once, and for each row's last token.
    linear = 2 * ((2 * block - late) * 26 + late * 3)
    prompts = [[*START, 1, 2], [*START, 3, 4, 5, 6]]
    assert work.scored(prompts) == linear + 256 * looked + 2 * 2 * 32 * 2
    assert work.forward(prompts, starts=1)[1:] == (2 * ((work.lora - work.last_lora) * 26 + work.last_lora * 3), 256 * looked)


@pytest.mark.slow
def test_the_gpu_benchmark_still_runs(tmp_path: Path) -> None:
    """At its tiny size it measures scoring and training on a CPU, and says where the time went."""
    command = [sys.executable, "benchmarks/gpu.py", "--size", "tiny", "--out", tmp_path / "gpu.json"]
    subprocess.run(command, cwd=PROJECT, check=True, timeout=600)
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["prompt"]["shared"] == 70
    for name, figure in (("scoring", "pairs_s"), ("training", "examples_s")):
        assert result[name][figure] > 0
        assert result[name]["share"] > 0
        assert len(result[name]["profile"]) == 15
