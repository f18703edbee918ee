"""Removed and renamed settings: refused in new settings with the remedy, translated in the records of old runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

from relevance_core.config.dotted import merge, nest, value_at
from relevance_core.errors import SettingsError

RENAMED: Final[Mapping[str, str]] = {
    f"base.{name}": f"base.builtin.{name}" for name in ("vocabulary", "hidden", "layers", "contrastive_steps", "documents")
}
"""Old dotted name → the new one."""

REMOVED: Final[Mapping[str, str]] = {
    "train.shared": "leave it out: one adapter for all tasks gained nothing in F1 (-0.003 QC, -0.002 QI)",
    "train.warm_start": "leave it out: the champion's weights gained nothing in F1 (0.876 against 0.885 from nothing)",
    "translate.sources=auto": "name the languages in translate.sources: `relevance ablate --sources` measures each of them",
    "translate.sources_from": "name the languages in translate.sources: `relevance ablate --sources` measures each of them",
    "translate.round_trip": "leave it out: the way back only measured; translate.guards rejects",
    "translate.round_trip_similarity": "leave it out: the way back had no measured gain; translate.guards rejects",
    "translate.warn_rejected": "leave it out: a language that loses more than half of its translations is warned of",
    "translate.warn_similarity": "leave it out, with translate.round_trip",
    "mine.index=hnsw": "set mine.index=auto: the graph took 11 times as long as the inverted index and found less",
    "mine.skip_ranks": "leave it out: leaving out the nearest ranks had no measured gain",
    "mine.ratios": "set mine.ratio, for all tasks and languages: a ratio by language had no measured gain",
    "mine.absolute_margin": "leave it out: a margin had no measured gain",
    "mine.relative_margin": "leave it out: a margin had no measured gain",
    "mine.champion_review": "leave it out: asking the champion had no measured gain; denoise.action=review still asks people",
    "mine.catalogue": "set source.catalogue, which every stage reads",
    "train.tapt=text": "set train.tapt=other-task or leave it out: a first training on raw texts had no measured gain",
    "augment": "leave it out: mistyped copies of training rows had no measured gain",
    "evaluate": "leave it out: the measurement with mistyped queries served the mistyped copies alone",
}
"""Old dotted name → remedy. The name may be that of a whole part, or carry `=` and a single removed value."""

OLD_DEFAULTS: Final[Mapping[str, Any]] = {
    "train.shared": False,
    "train.warm_start": False,
    "translate.sources_from": "",
    "translate.round_trip": 0,
    "translate.round_trip_similarity": 0.0,
    "translate.warn_rejected": 0.5,
    "translate.warn_similarity": 0.7,
    "mine.skip_ranks": 0,
    "mine.ratios": {},
    "mine.absolute_margin": None,
    "mine.relative_margin": None,
    "mine.champion_review": None,
    "mine.catalogue": "",
    "augment.enabled": False,
    "evaluate.corrupted": False,
}
"""Removed setting, or the switch of a removed part → its old default, with which a run did what today's stages do."""


def refuse(values: Mapping[str, Any]) -> None:
    """Raises SettingsError, with the remedy, for the first renamed or removed setting in nested plain values."""
    for old, new in RENAMED.items():
        if _holds(values, old):
            raise SettingsError("this setting has another name now", where=old, do=f"set {new}")
    for old, do in REMOVED.items():
        if _holds(values, old):
            raise SettingsError("this setting was removed" if "=" not in old else "this value was removed", where=old, do=do)


def translate_record(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an old run's recorded settings under today's names, without the removed ones; `lost` names those that mattered."""
    found = deepcopy(dict(values))
    for old in (*RENAMED, *REMOVED):
        if not _holds(found, old):
            continue
        part, last = _part(found, old)
        value = part.pop(last)
        if old in RENAMED:
            found = merge(nest(RENAMED[old], value), found)
    return found


def lost(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the removed settings with which a recorded run did something that today's stages can't do, as `name=value`."""
    found = [old for old in REMOVED if "=" in old and _holds(values, old)]
    for name, default in OLD_DEFAULTS.items():
        part, last = _part(values, name)
        if last in part and part[last] != default:
            found.append(f"{name}={json.dumps(part[last])}")
    return tuple(found)


def _holds(values: Mapping[str, Any], old: str) -> bool:
    """Tells whether nested values have the setting, and, where `old` names a value, that value."""
    name, named, wanted = old.partition("=")
    part, last = _part(values, name)
    if last not in part:
        return False
    value = part[last]
    given = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    return not named or wanted in (str(each).strip() for each in given)


def _part(values: Mapping[str, Any], old: str) -> tuple[Any, str]:
    """Returns the part of nested values that may hold a dotted name ({} where there is none), and the name's last step."""
    parts, _, last = old.partition("=")[0].rpartition(".")
    part = value_at(values, parts, {})
    return part if isinstance(part, Mapping) else {}, last
