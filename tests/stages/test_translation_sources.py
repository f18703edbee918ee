"""The languages that are translated from: the named ones, or every trained one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from relevance_core.errors import SettingsError
from relevance_core.loop import default_run_id
from relevance_core.plan import unknown
from relevance_core.stages import ingest, translate
from relevance_core.store import Store
from tests.support.pair_cases import many, settings_for, write_rows
from tests.support.stage_cases import log
from tests.support.translate_cases import inputs_of, ran, settings_of


@pytest.mark.parametrize(("more", "rows"), [({"sources": "en"}, 1), ({}, 2)])
def test_rows_come_from_the_named_languages(more: dict[str, Any], rows: int, store: Store) -> None:
    """Of an English and a Spanish row the English one alone becomes German where it is named; unnamed, both do."""
    train = log(("en", "shirt", "a", 1), ("es", "roja", "b", 1))
    settings = settings_of(translate={"min_rows": 0, "of_largest": 2.0} | more)
    assert ran(store, settings, inputs_of(store, train)).table("train").filter(language="de").height == rows


def test_a_run_is_named_by_its_settings_and_source(tmp_path: Path) -> None:
    """The id is the window's end and a digest of what the run is recorded with and of what the source holds."""
    plain = settings_for(write_rows(tmp_path / "logs.jsonl", many(4)))
    values = json.dumps(plain.model_dump(mode="json", exclude={"engine", "serving"}), sort_keys=True)
    digest = hashlib.sha256(f"{values}\n{ingest.fingerprint(plain)}".encode()).hexdigest()
    assert default_run_id(plain) == f"2026-10-15-{digest[:8]}"


def test_the_plan_names_the_languages() -> None:
    """Where no earlier run can be estimated from, the first task says from which languages it will be."""
    plans = [unknown(settings_of(tasks="QC", translate=more), ("de",)) for more in ({}, {"sources": "en,es"})]
    assert [plan["text"][1].partition("from ")[2] for plan in plans] == ["every trained language", "en, es"]


def test_a_language_that_no_trained_one_reaches_is_refused(store: Store) -> None:
    """Polish is in no glossary: the error names the trained languages, before any work."""
    train = log(("es", "camisa", "t", 1), ("fr", "chemise", "t", 1))
    with pytest.raises(SettingsError, match="glossary can't translate into pl from es, fr"):
        translate.run(settings_of(), inputs_of(store, train, onboarded=["pl"]), store)
