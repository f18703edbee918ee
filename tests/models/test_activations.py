"""What a training step keeps: the formula by hand, against what autograd keeps, and from when on it is too much."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen3ForCausalLM

from relevance_core.models.activations import Batch, activation_bytes, too_large
from relevance_core.models.lm import last_hidden
from relevance_core.models.trainer import PROJECTIONS
from tests.support.models_fixture import make_model

SMALL = SimpleNamespace(
    hidden_size=10, num_attention_heads=2, num_key_value_heads=1, intermediate_size=30, num_hidden_layers=2, vocab_size=100
)


def test_the_bytes_are_those_worked_out_by_hand() -> None:
    """Hidden 10, queries 10, keys 5, MLP 30, rank 2: 349 numbers a token. 2 rows of 5 tokens, 3 of them shared, are 7 tokens
    and 2 × 2 × 2 × 5 scores.
    """
    batch = Batch(rows=2, longest=5, shared=3)
    assert batch.tokens == 7
    assert activation_bytes(SMALL, 2, batch, half=False) == 2 * (7 * 349 + 2 * 40) * 4 + 2 * 100 * 12
    assert activation_bytes(SMALL, 2, batch, half=True) == 2 * (7 * 349 + 2 * 40) * 3 + 2 * 100 * 12
    assert activation_bytes(SMALL, 2, Batch(rows=2, longest=5, shared=0), half=False) == 2 * 10 * 349 * 4 + 2 * 100 * 12


@pytest.mark.parametrize("shared", [0, 30])
def test_the_bytes_are_about_those_that_autograd_keeps(shared: int) -> None:
    """A layer more of width 32, with 4 rows of 40 tokens, keeps what the formula says, to a tenth."""
    config = make_model(600).config
    kept, estimated = [], []
    for layers in (2, 3):  # the last one keeps less, being computed for one token alone
        config.num_hidden_layers, config.layer_types = layers, ["full_attention"] * layers
        kept.append(kept_bytes(Qwen3ForCausalLM(config), shared))
        estimated.append(activation_bytes(config, 4, Batch(4, 40, shared), half=False))
    assert estimated[1] - estimated[0] == pytest.approx(kept[1] - kept[0], rel=0.1)


def kept_bytes(model: Any, shared: int) -> int:
    """The bytes of all that autograd keeps of 4 rows of 40 tokens, parameters left out."""
    adapted = get_peft_model(model, LoraConfig(r=4, lora_dropout=0.1, target_modules=list(PROJECTIONS))).train()
    parameters = {tensor.untyped_storage().data_ptr() for tensor in adapted.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        last_hidden(adapted.get_base_model(), torch.full((4, 40), 7), torch.full((4,), 40), shared)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_a_large_model_is_checkpointed_only_where_it_must() -> None:
    """Qwen3-14B in bfloat16 (28 GiB): of rows of 100 tokens with 66 shared, 64 fit on 141 GiB and not on 80, 16 on both."""
    config = SimpleNamespace(
        hidden_size=5120,
        num_attention_heads=40,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=17408,
        num_hidden_layers=40,
        vocab_size=151_936,
    )
    weights = 28 << 30
    large, small = (activation_bytes(config, 32, Batch(rows, 100, 66), half=True) for rows in (64, 16))
    assert (too_large(large, weights, 80 << 30), too_large(large, weights, 141 << 30)) == (True, False)
    assert (too_large(small, weights, 80 << 30), too_large(small, weights, 141 << 30)) == (False, False)


def test_too_large_is_more_than_what_can_be_used() -> None:
    """Of 100 bytes 85 can be used: 40 and 45 fit, 40 and 46 do not."""
    assert not too_large(45, 40, 100)
    assert too_large(46, 40, 100)
