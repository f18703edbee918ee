"""Which languages to translate from: named ones, or by what an ablation says of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from relevance_core import config
from relevance_core.config import TranslateSettings
from relevance_core.errors import DataError, NotFound, SettingsError
from relevance_core.loop import default_run_id
from relevance_core.plan import unknown
from relevance_core.stages import ingest, translate
from relevance_core.stages.translate.choice import Gains, choose, read_gains
from relevance_core.store import Store
from tests.support.pair_cases import many, settings_for, write_rows
from tests.support.stage_cases import log
from tests.support.translate_cases import inputs_of, ran, settings_of

KNOWN = {"de": {"en": {"gain": 0.02, "low": 0.004}, "es": {"gain": 0.01, "low": -0.002}, "fr": {"gain": 0.03, "low": 0.01}}}


def written(folder: Path, content: Any) -> str:
    """The address of a file of gains with this content."""
    path = folder / "gains.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("target", "possible", "taken", "why"),
    [
        ("de", "en es fr", "en fr", "en, fr helped de"),
        ("de", "en es", "en", "en helped de"),
        ("de", "es pt", "es pt", "en, fr helped de, but can't be translated from now: every trained language is taken"),
        ("it", "en es", "en es", "nothing is known of the languages that help it: every trained language is taken"),
        ("pl", "en es", "en es", "no language is known to help pl: every trained language is taken"),
    ],
)
def test_auto_takes_what_helped(target: str, possible: str, taken: str, why: str) -> None:
    """An interval above zero is help, one that reaches below it or holds it is none; without any, all are taken, and it is said."""
    gains = Gains.model_validate({"sources": KNOWN | {"pl": {"en": {"gain": 0.01, "low": 0.0}}}})
    choice = choose(gains, target, frozenset(possible.split()))
    assert (choice.languages, choice.why) == (frozenset(taken.split()), why)
    assert choice.measured == ("every trained" not in why)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "Invalid JSON"),
        ({"gains": {}}, "sources"),
        ({"sources": {"german": {}}}, "german"),
        ({"sources": {"de": {"en": {"gain": 0.02}}}}, r"sources\.de\.en\.low"),
        ({"sources": {"de": {"en": {"gain": 0.01, "low": 0.02}}}}, "above the gain"),
        ({"sources": {"de": {"en": {"gain": 2.0, "low": 0.1}}}}, "less than or equal to 1"),
        ('{"sources": {"de": {"en": {"gain": NaN, "low": 0.1}}}}', r"sources\.de\.en\.gain"),
    ],
)
def test_a_damaged_file_is_refused_where_it_is_damaged(tmp_path: Path, content: Any, what: str) -> None:
    """The error names the file, the place in it and the form that is expected."""
    settings = TranslateSettings(sources=("auto",), sources_from=written(tmp_path, content))
    with pytest.raises(DataError, match=what) as caught:
        read_gains(settings)
    assert str(tmp_path / "gains.json") in caught.value.where
    assert '"low": 0.004' in caught.value.expected


def test_a_missing_file_is_named_with_its_setting(tmp_path: Path, store: Store) -> None:
    """The stage ends before any work; a file that nobody reads may be missing."""
    values = {"sources": "auto", "sources_from": str(tmp_path / "none.json")}
    with pytest.raises(NotFound, match=r"translate\.sources_from: .*none\.json"):
        translate.run(settings_of(translate=values), inputs_of(store, log(("es", "camisa", "t", 1))), store)
    for unread in ({"sources": "es"}, {"enabled": False}):
        assert read_gains(config.build({"translate": values | unread}).translate).sources == {}


def test_more_may_stand_in_the_file(tmp_path: Path) -> None:
    """What else the ablation says of a gain, and of itself, is not read."""
    known = {"sources": {"de": {"en": KNOWN["de"]["en"] | {"high": 0.04, "seeds": 3}}}, "command": "x"}
    gains = read_gains(TranslateSettings(sources=("auto",), sources_from=written(tmp_path, known)))
    assert gains.sources["de"]["en"].low == 0.004


def test_the_stage_samples_from_what_helped(tmp_path: Path, store: Store) -> None:
    """Of an English and a Spanish row only the English one becomes German; without a file both do, with a warning."""
    train = log(("en", "shirt", "a", 1), ("es", "roja", "b", 1))
    inputs = inputs_of(store, train)
    auto: dict[str, Any] = {"min_rows": 0, "of_largest": 2.0, "sources": "auto"}
    known = ran(store, settings_of(translate=auto | {"sources_from": written(tmp_path, {"sources": KNOWN})}), inputs)
    assert known.table("train").filter(origin="translation")["query"].to_list() == ["hemd"]
    assert known.report.figures["sources"] == {"de": ["en"]}
    assert known.report.figures["warnings"] == []
    blind = ran(store, settings_of(translate=auto), inputs)
    assert blind.table("train").filter(origin="translation")["query"].sort().to_list() == ["hemd", "rot"]
    why = "nothing is known of the languages that help de: every trained language is taken"
    assert blind.report.figures["warnings"] == [why]


def test_another_result_is_another_output(tmp_path: Path, store: Store) -> None:
    """The content counts: the same file finds the finished output, a changed one does not."""
    inputs = inputs_of(store, log(("en", "shirt", "a", 1), ("es", "roja", "b", 1)))
    settings = settings_of(translate={"min_rows": 0, "sources": "auto", "sources_from": written(tmp_path, {"sources": KNOWN})})
    first, again = (translate.run(settings, inputs, store) for _ in range(2))
    written(tmp_path, {"sources": {"de": {"es": {"gain": 0.02, "low": 0.01}}}})
    changed = translate.run(settings, inputs, store)
    assert (again.found, changed.found) == (True, False)
    assert changed.address != first.address


def test_another_result_is_another_run(tmp_path: Path) -> None:
    """The name that a run gets by its inputs changes with the file, and is what it was where none is read."""
    source = write_rows(tmp_path / "logs.jsonl", many(4))
    address = written(tmp_path, {"sources": KNOWN})
    more = ("translate.sources=auto", f"translate.sources_from={address}")
    before = default_run_id(settings_for(source, *more))
    written(tmp_path, {"sources": {}})
    assert default_run_id(settings_for(source, *more)) != before
    plain = settings_for(source)
    values = json.dumps(plain.model_dump(mode="json", exclude={"engine", "serving"}), sort_keys=True)
    digest = hashlib.sha256(f"{values}\n{ingest.fingerprint(plain)}".encode()).hexdigest()
    assert default_run_id(plain) == f"2026-10-15-{digest[:8]}"


def test_auto_stands_alone() -> None:
    """Named languages beside it would leave it open which of the two holds."""
    with pytest.raises(SettingsError, match="either named or auto"):
        config.load(overrides=["translate.sources=auto,es"])


def test_the_plan_says_what_auto_means() -> None:
    """Where no earlier run can be reckoned with, the first task says that it will be the languages that helped."""
    plan = unknown(settings_of(tasks="QC", translate={"sources": "auto"}), ("de",))
    assert plan["text"][1] == "de QC: at most 10000 rows from the languages that helped"


def test_a_language_that_cannot_be_translated_is_refused_with_auto_too(store: Store) -> None:
    """Auto names no language: only a target that none of the trained ones reaches is an error."""
    train: pl.DataFrame = log(("es", "camisa", "t", 1), ("fr", "chemise", "t", 1))
    settings = settings_of(translate={"min_rows": 0, "sources": "auto"})
    assert ran(store, settings, inputs_of(store, train)).table("train").filter(language="de").height == 1
    with pytest.raises(SettingsError, match="glossary can't translate into pl from es, fr"):
        translate.run(settings, inputs_of(store, train, onboarded=["pl"]), store)
