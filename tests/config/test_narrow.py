"""Settings that show only what a stage names."""

from __future__ import annotations

import pickle

import pytest

from relevance_core.config import Settings, TrainSettings, UnnamedSetting, build
from relevance_core.errors import ProgramError
from relevance_core.runs.artifacts import Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage
from relevance_core.store import Store


def test_only_named_settings_can_be_read() -> None:
    """A part that is named whole is itself, of one that is named in part the other fields are refused with the reader's name."""
    narrowed = build({"train": {"epochs": 3}, "seed": 5}).only(("seed", "train.epochs", "gate"), "mine QC")
    assert (narrowed.seed, narrowed.train.epochs, narrowed.gate) == (5, 3.0, Settings().gate)
    with pytest.raises(UnnamedSetting, match=r"mine QC reads the setting train\.r, .*name it in `uses`"):
        _ = narrowed.train.r
    with pytest.raises(UnnamedSetting, match="the setting prompt"):
        _ = narrowed.prompt


def test_methods_read_named_settings() -> None:
    """A method of a part or of the whole works as far as it reads what is named."""
    named = build({"window": {"end": "2026-10-08"}})
    assert named.only(("window",)).window.bounds() == named.window.bounds()
    assert named.only(("prompt.template", "base.model")).template() == "compact"
    with pytest.raises(UnnamedSetting, match=r"base"):
        named.only(("prompt.template",)).template()


def test_the_named_values_of_a_part() -> None:
    """`values` of a narrowed part are those of its named fields, of a whole part all."""
    part = build({"train": {"epochs": 3, "r": 8}}).only(("train.r", "train.alpha")).train
    assert part.values() == {"r": 8, "alpha": 64}
    assert TrainSettings().values() == {name: getattr(TrainSettings(), name) for name in TrainSettings.model_fields}


def test_narrowed_settings_travel_to_another_process() -> None:
    """They can be pickled, and stay as narrow."""
    narrowed = pickle.loads(pickle.dumps(Settings().only(("train.r",), "train QC")))  # noqa: S301 - made here
    assert narrowed.train.r == 32
    with pytest.raises(UnnamedSetting, match=r"train QC reads the setting train\.alpha"):
        _ = narrowed.train.alpha


def test_a_body_gets_what_its_stage_names(store: Store) -> None:
    """A body may read the settings of its key and those of the machine; another ends it as a wrong program; nothing is left."""

    def body(settings: Settings, inputs: Inputs, out: Output) -> Report:
        return Report(Rows(), {"seed": settings.seed, "workers": settings.engine.workers})

    def curious(settings: Settings, inputs: Inputs, out: Output) -> Report:
        return Report(Rows(), {"end": settings.window.end})

    found = stage("body", uses=("seed",), machine=("engine.workers",))(body)(Settings(), Inputs(), store)
    assert found.figures == {"seed": 17, "workers": 0}
    with pytest.raises(UnnamedSetting, match=r"window") as refused:
        stage("curious", uses=("seed",))(curious)(Settings(), Inputs(), store)
    assert refused.value.exit_code == ProgramError.exit_code
    assert [entry.key for entry in store.list("stages/curious/")] == []
