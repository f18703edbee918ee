"""The table of stages: what each reads, by the run's settings, and the DAG's arrows against it."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from relevance_core import config
from relevance_core.errors import ProgramError
from relevance_core.loop import stage_function
from relevance_core.runs.artifacts import Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage
from relevance_core.runs.steps import COMMON, PER_TASK, REPORT, STEPS, TOGETHER, Step, check, step_of


def before(name: str) -> set[str]:
    """Every stage that has finished when a stage begins, by the table."""
    found = set(step_of(name).needs.values())
    return found.union(*(before(need) for need in found))


def test_every_stage_comes_after_those_that_it_reads() -> None:
    """A stage reads only stages that stand above it in the table, whatever the settings."""
    seen: set[str] = set()
    for step in STEPS:
        more = {stage for roles in step.with_setting.values() for stage in roles.values()}
        assert {*step.needs.values(), *more} <= seen, step.name
        seen.add(step.name)


def test_stages_of_a_task_stand_together() -> None:
    """The table is the common stages, then those of a task, then those of all tasks together."""
    assert [step.name for step in STEPS] == [*COMMON, *PER_TASK, *TOGETHER]


def test_by_default_train_reads_its_own_task_alone() -> None:
    """Without train.tapt the inputs of *train* are the rows that *denoise* kept and the base."""
    assert step_of("train").inputs(config.Settings()) == {"rows": "denoise", "base": "base"}


@pytest.mark.parametrize(
    ("values", "stage", "more"),
    [
        ({"train": {"tapt": "other-task"}}, "train", {"other_rows": "translate"}),
    ],
)
def test_a_strategy_adds_no_arrow(values: dict[str, Any], stage: str, more: dict[str, str]) -> None:
    """What a strategy makes a stage read besides has always finished before it, and no other stage reads anything else."""
    settings = config.build(values)
    changed = {step.name: step.inputs(settings) for step in STEPS if step.inputs(settings) != dict(step.needs)}
    assert changed == {stage: dict(step_of(stage).needs) | more}
    assert set(more.values()) <= before(stage)


@pytest.mark.parametrize("step", [*STEPS, REPORT], ids=lambda step: step.name)
def test_an_effect_is_what_the_table_says(step: Step) -> None:
    """A stage compares its finished output with the registry exactly where its step says that it acts on the registry."""
    function: Any = stage_function(step.name)
    assert function.effect == step.effect


@pytest.mark.parametrize(
    ("needs", "what"),
    [
        ({"rows": "mien"}, "step dedupe: no step 'mien' before it; where: relevance_core/runs/steps.py; expected: ingest"),
        ({"rows": "later"}, "step dedupe: no step 'later' before it; where: relevance_core/runs/steps.py; expected: ingest"),
        ({"rows": "dedupe"}, "step dedupe: no step 'dedupe' before it"),
    ],
)
def test_a_step_that_reads_no_earlier_step_is_refused(needs: dict[str, str], what: str) -> None:
    """A mistyped stage, a later stage and the step itself: the error names the step and the table, with status 70."""
    with pytest.raises(ProgramError) as caught:
        check([Step("ingest", "", ""), Step("dedupe", "", "", needs), Step("later", "", "")])
    assert str(caught.value).startswith(what)
    with pytest.raises(ProgramError, match="step dedupe: no step 'later' before it"):
        check([Step("ingest", "", ""), Step("dedupe", "", "", with_setting={"train.tapt": needs | {"rows": "later"}})])
    with pytest.raises(ProgramError, match="two steps have the name 'ingest'"):
        check([Step("ingest", "", ""), Step("ingest", "", "")])


@stage("dedup", uses=())
def misnamed(settings: config.Settings, inputs: Inputs, out: Output) -> Report:
    """A stage whose decorator has another name than its module."""
    return Report(Rows())


@pytest.mark.parametrize(
    ("run", "what"),
    [
        (misnamed, "the module of stage dedupe declares stage 'dedup'; "),
        (misnamed.__wrapped__, "the module of stage dedupe has no function `run` that @stage decorates; "),
        (None, "the module of stage dedupe has no function `run` that @stage decorates; "),
    ],
)
def test_a_module_without_its_stage_is_refused(run: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another name, no decorator, no function, no module: ProgramError names the stage and what is expected."""
    with pytest.raises(ProgramError, match=r"stage dedupe has no module; expected: relevance_core\.stages\.dedupe"):
        stage_function("dedupe")
    module = types.ModuleType("relevance_core.stages.dedupe")
    if run is not None:
        monkeypatch.setattr(module, "run", run, raising=False)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(ProgramError) as caught:
        stage_function("dedupe")
    assert str(caught.value).startswith(what)
    assert (caught.value.exit_code, caught.value.expected) == (70, '@stage("dedupe", …) above `def run`')


def test_an_optional_step_names_its_switch() -> None:
    """`optional` is the name of a setting that is on or off."""
    switches = {step.name: step.optional for step in STEPS if step.optional}
    assert set(switches) == {"translate", "mine", "denoise"}
    assert all(isinstance(config.value_at(config.Settings(), name), bool) for name in switches.values())
