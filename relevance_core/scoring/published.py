"""What a published version's manifest stands for: its base model, its prompt, its translator.

Evaluation, serving and clients read a manifest through here, so that a version is scored in the same way wherever that happens.
"""

from __future__ import annotations

from relevance_core.errors import NotFound
from relevance_core.models.base_ref import BaseRef
from relevance_core.prompts import Prompt
from relevance_core.registry import Manifest, PromptInfo
from relevance_core.runs.stage import open_artifact
from relevance_core.store import Store


def base_of(store: Store, version: Manifest) -> BaseRef:
    """The base model of a published version: the output of *base* that built it, or a Hugging Face id or folder.

    Raises NotFound when that output is gone.
    """
    base = version.base
    if not base.uri.startswith("stages/"):
        return BaseRef(base.id, base.uri or base.id, base.revision)
    built = open_artifact(store, base.uri)
    if built is None:
        raise NotFound(
            f"the base model {base.id} of {version.name} is damaged or gone",
            where=store.uri_of(base.uri),
            expected="the folder model/ of a finished output of the stage base",
            do="restore it from a backup, or promote a version whose base is there",
        )
    return BaseRef(base.id, str(built.folder("model")), base.revision)


def prompt_of(info: PromptInfo) -> Prompt:
    """The prompt that a manifest records."""
    return Prompt.from_json(
        {"template": info.name, "version": int(info.version), "translation": info.translation, "max_tokens": info.max_tokens}
    )


def translator_reference(info: PromptInfo) -> dict[str, str]:
    """What `open_translator` opens, from the `name-version` that a manifest records."""
    name, _, version = info.translator.rpartition("-")
    return {"name": name, "version": version, "key": f"translators/{info.translator}"}
