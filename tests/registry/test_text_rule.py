"""The text rule of a version: part of its id and required of its reader, unless it is rule 1."""

from __future__ import annotations

from relevance_core.registry import Manifest, PromptInfo
from relevance_core.registry.manifest import LoraInfo, version_of
from tests.support.registry_cases import make_meta

LORA = LoraInfo(r=8, alpha=16, targets=("q_proj",))


def made(rule: int) -> Manifest:
    """A manifest of a version whose prompt has the rule."""
    return Manifest.build("QC", {}, LORA, make_meta(prompt=PromptInfo(name="compact", version="1", text_rule=rule)))


def test_rule_1_has_the_ids_that_it_had() -> None:
    """A manifest from before the rule was recorded has the id of rule 1; no reader needs to know the rule for it."""
    fields = made(1).to_json()
    before = fields | {"prompt": {name: value for name, value in fields["prompt"].items() if name != "text_rule"}}
    assert version_of(before) == made(1).version != made(2).version
    assert ("text_rule" in made(1).requires, "text_rule" in made(2).requires) == (False, True)
    assert made(2).problems() == made(1).problems() == []
