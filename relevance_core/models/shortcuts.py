"""Two shortcuts through a causal LM that skip work which the answer's token does not need, and leave its values unchanged.

The constant start of a template is the same for every row and attends only to itself, so its keys and values are computed once
(`start_of`). Every row's own tokens attend to them and to themselves (`attend`): the start's part is one product of the whole batch
with one matrix, so that the start is never copied for each row, and one softmax over both parts equals plain attention.

Only the state after a row's last token is read. In the last block, everything after the attention works token by token, so it is
computed for that token alone (`only_last`).

Both keep the gradient. With gradient checkpointing the second shortcut is left out, since the recomputed forward pass must have the
original shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from relevance_core.errors import ModelError

Start = dict[int, tuple[Tensor, Tensor]]
"""Layer number → the keys and the values of a prompt's start, each 1 × key heads × tokens × head size."""

_NAME: Final = "shared_start"


def start_of(model: Any, ids: Tensor) -> Start:
    """Computes the keys and values of `ids` (1 × tokens), with their gradient where gradients are on.

    Raises ModelError for a model that implements attention itself, outside of transformers' interface.
    """
    if model.config._attn_implementation != _NAME:
        model.set_attn_implementation(_NAME)
    kept: Start = {}
    with only_last(model, torch.zeros(1, dtype=torch.long, device=ids.device)):  # the states after the last block are not read
        model.base_model(input_ids=ids, use_cache=False, kept=kept)
    if len(kept) != model.config.num_hidden_layers:
        raise ModelError(
            "the base model's attention can't be replaced",
            where=str(model.config.model_type),
            expected="attention through transformers' AttentionInterface, as in Qwen3 and Llama",
        )
    return kept


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    start: Start | None = None,
    kept: Start | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Computes causal attention behind transformers' interface: batch × tokens × heads × head size.

    Args:
        module: the attention layer.
        query: batch × heads × tokens × head size.
        key: as `query`, maybe with fewer heads, each for several of the query's.
        value: as `key`.
        attention_mask: of transformers.
        scaling: of the scores.
        dropout: of the weights.
        start: keys and values before every row's tokens; such rows are padded on the right alone.
        kept: receives this layer's keys and values.
        more: arguments of transformers that are ignored.
    """
    if kept is not None:
        kept[module.layer_idx] = (key, value)
    if start is None:
        result, _ = sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more)
        return result, None
    batch, heads, tokens, size = query.shape
    groups = key.shape[1]
    keys, values = (part[0] for part in start[module.layer_idx])
    query = query.reshape(batch, groups, -1, size) * scaling
    ahead = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).triu(1)
    own = (query @ key.transpose(2, 3)).view(batch, heads, tokens, tokens).masked_fill(ahead, float("-inf"))
    before = _with_start(query, keys.transpose(1, 2))
    scores = torch.cat([before, own.view(batch, groups, -1, tokens)], dim=-1)
    weights = drop(torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype), dropout, training=dropout > 0)
    length = keys.shape[1]
    result = _with_start(weights[..., :length], values) + weights[..., length:] @ value
    return result.reshape(batch, heads, tokens, size).transpose(1, 2).contiguous(), None


def _with_start(rows: Tensor, start: Tensor) -> Tensor:
    """Multiplies batch × groups × n × a by groups × a × b: one product a group for the whole batch."""
    batch, groups, n, _ = rows.shape
    product = rows.transpose(0, 1).reshape(groups, batch * n, -1) @ start
    return product.view(groups, batch, n, -1).transpose(0, 1)


@contextmanager
def only_last(model: Any, places: Tensor) -> Iterator[None]:
    """Limits the last block, inside the context, to the state at `places` (one of each row); its other states are meaningless.

    Raises ModelError for a model whose last block is not made of attention and an MLP.
    """
    if model.is_gradient_checkpointing:
        yield
        return
    rows = torch.arange(len(places), device=places.device)

    def narrow(_: Any, given: tuple[Tensor]) -> Tensor:
        # batch × 1 × width: added to the residual stream it reaches every token, and is right only at its own.
        return given[0][rows, places][:, None]

    hooks = [part.register_forward_pre_hook(narrow) for part in _late_parts(model)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _late_parts(model: Any) -> tuple[Any, Any]:
    """Returns the parts of the last block after its attention. Raises ModelError for a model that names them otherwise."""
    try:
        block = model.base_model.layers[-1]
        return block.self_attn.o_proj, block.mlp
    except AttributeError as error:
        raise ModelError(
            f"the base model's blocks are of another kind: {error}",
            where=str(model.config.model_type),
            expected="layers with self_attn.o_proj and mlp, as in Qwen3 and Llama",
        ) from error


AttentionInterface.register(_NAME, attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
