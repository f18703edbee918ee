"""What a training step keeps in memory for its way back, and whether that is too much for a GPU.

Counted with `torch.autograd.graph.saved_tensors_hooks` on Qwen3 blocks with LoRA and dropout on all seven projections, in numbers a
token and layer: 12 of the hidden width (norms, residuals, LoRA's inputs after dropout and their masks), 5 of the queries' width,
3 of the keys', 5 of the MLP's, 7 of the rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

_HIDDEN, _QUERIES, _KEYS, _MLP, _RANK = 12, 5, 3, 5, 7
_BYTES: Final = {False: 4, True: 3}
"""Of a number on average, by whether the base is in bfloat16: norms and LoRA's branch are in float32 all the same."""
_HEAD_BYTES: Final = 12
"""Of a logit in float32: itself, its softmax and its gradient."""
_USABLE: Final = 0.85
"""The share of a GPU's memory that is reckoned with; the rest is for its driver, kernels' workspace and fragments."""


@dataclass(frozen=True)
class Batch:
    """The largest batch of a training: its rows, the tokens of its longest one, and how many leading ones they share."""

    rows: int
    longest: int
    shared: int

    @property
    def tokens(self) -> int:
        """Tokens that are computed: those that are shared once, and the rest of every row, padded to the longest."""
        return self.shared + self.rows * (self.longest - self.shared)


def activation_bytes(config: Any, rank: int, batch: Batch, half: bool) -> int:
    """Bytes that a step keeps for its backward pass without gradient checkpointing.

    config: of a dense model such as Qwen3 or Llama. rank: of the LoRA. half: whether the base is in bfloat16.

    bytes = layers × (tokens × (12 hidden + 5 queries + 3 keys + 5 MLP + 7 rank) + 2 scores) × bytes of a number + rows ×
    vocabulary × 12. scores: with a shared start, rows × heads × tokens after it × longest, the weights of the attention
    (`shortcuts.attend`); else none.
    """
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    queries, keys = config.num_attention_heads * head, config.num_key_value_heads * head
    token = _HIDDEN * config.hidden_size + _QUERIES * queries + _KEYS * keys + _MLP * config.intermediate_size + _RANK * rank
    scores = batch.rows * config.num_attention_heads * (batch.longest - batch.shared) * batch.longest if batch.shared else 0
    layer = batch.tokens * token + 2 * scores
    return int(config.num_hidden_layers * layer * _BYTES[half] + batch.rows * config.vocab_size * _HEAD_BYTES)


def too_large(activations: int, weights: int, memory: int) -> bool:
    """Whether a step's activations have to be computed again on the way back (gradient checkpointing).

    activations, weights, memory: bytes of a step, of the model with its adapter and optimiser, and of the whole device. The whole,
    not what is free just now, so that a training which goes on from a checkpoint decides as it did before.
    """
    return weights + activations > _USABLE * memory
