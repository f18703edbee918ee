"""The memory that a training step's activations take until the backward pass, and its limit on a GPU.

Measured with `torch.autograd.graph.saved_tensors_hooks` on Qwen3 blocks with LoRA and dropout on all seven projections, in values
a token and layer: 12 of the hidden width (norms, residuals, LoRA's inputs after dropout and their masks), 5 of the queries' width,
3 of the keys', 5 of the MLP's, 7 of the rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

_HIDDEN, _QUERIES, _KEYS, _MLP, _RANK = 12, 5, 3, 5, 7
_BYTES: Final = {False: 4, True: 3}
"""Mean bytes of an activation value, keyed by True for a bfloat16 base: norms and LoRA's branch are in float32 even then."""
_HEAD_BYTES: Final = 12
"""Bytes of a float32 logit with its softmax and its gradient."""
_USABLE: Final = 0.85
"""The share of a GPU's memory that a training may use; its driver, kernels' workspace and fragmentation need the rest."""


@dataclass(frozen=True)
class Batch:
    """The size of a training's largest batch.

    rows: its rows. longest: tokens of its longest row. shared: leading tokens that all rows share.
    """

    rows: int
    longest: int
    shared: int

    @property
    def tokens(self) -> int:
        """The number of tokens computed: the shared ones once, and the rest of every row, padded to the longest."""
        return self.shared + self.rows * (self.longest - self.shared)


def activation_bytes(config: Any, rank: int, batch: Batch, half: bool) -> int:
    """Estimates the bytes that a step keeps for its backward pass without gradient checkpointing.

    bytes = layers × (tokens × (12 hidden + 5 queries + 3 keys + 5 MLP + 7 rank) + 2 scores) × bytes a value + rows ×
    vocabulary × 12. scores: with a shared start, rows × heads × tokens after it × longest, the weights of the attention
    (`shortcuts.attend`); else none.

    Args:
        config: of a dense model such as Qwen3 or Llama.
        rank: of the LoRA.
        batch: the largest batch.
        half: True for a base in bfloat16.
    """
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    token = _HIDDEN * config.hidden_size + _QUERIES * queries + _KEYS * keys + _MLP * config.intermediate_size + _RANK * rank
    scores = batch.rows * config.num_attention_heads * (batch.longest - batch.shared) * batch.longest if batch.shared else 0
    layer = batch.tokens * token + 2 * scores
    return int(config.num_hidden_layers * layer * _BYTES[half] + batch.rows * config.vocab_size * _HEAD_BYTES)


def too_large(activations: int, weights: int, memory: int) -> bool:
    """Tells whether a step needs gradient checkpointing: its activations don't fit on the device.

    Args:
        activations: bytes of a step.
        weights: bytes of the model with its adapter and optimiser.
        memory: bytes of the whole device, not the free ones, so that a training resumed from a checkpoint decides as before.
    """
    return weights + activations > _USABLE * memory
