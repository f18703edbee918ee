"""Finding the base model that an output of *base* names: that output's own folders, an earlier one's, or a Hugging Face id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from relevance_core.errors import NotFound
from relevance_core.runs.stage import Artifact, open_artifact

if TYPE_CHECKING:
    from relevance_core.models.base_ref import BaseRef


def open_base(base: Artifact, dtype: Literal["auto", "float32", "bfloat16"] = "auto") -> BaseRef:
    """The base model of a finished *base* output, its folders on this machine.

    `address` in base.json is the output that holds `model/` and `fold-0/`, `fold-1/`, …: this one or an earlier one; without an
    address `model` is a Hugging Face id or a folder. Raises NotFound when the output it points to is gone.
    """
    from relevance_core.models.base_ref import BaseRef

    about = base.json("base")
    if not about["address"]:
        return BaseRef(about["id"], about["model"], about["revision"], dtype)
    holder = base if about["address"] == base.address else open_artifact(base.store, about["address"])
    if holder is None:
        raise NotFound(
            f"the base model {about['id']} is damaged or gone",
            where=base.store.uri_of(about["address"]),
            expected="the folder model/ that an earlier run left there",
            do=f"delete {base.address}/manifest.json and run `relevance stage base` again: it builds the base anew",
        )
    folds = tuple(str(holder.folder(f"fold-{number}")) for number in range(about["folds"]))
    return BaseRef(about["id"], str(holder.folder("model")), about["revision"], dtype, folds)
