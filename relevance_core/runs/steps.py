"""The order of the stages: one table, from which the DAG's titles and pools, the pages' strips and the command line's help derive.

The DAG file writes its arrows out as well, for the eye; a test holds them to this table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from relevance_core.config import Settings, value_at
from relevance_core.errors import ProgramError, SettingsError


@dataclass(frozen=True)
class Step:
    """One stage of the loop.

    Attributes:
        name: of the stage, of its module or folder in `relevance_core.stages` and of its task in the DAG.
        title: its name in the graph.
        text: its purpose, in a sentence.
        needs: role → the stage whose output fills it. A body asks for its inputs by role (`inputs["rows"]`), so that inserting a
            stage between two others changes this table alone.
        with_setting: dotted setting → further roles, needed while the setting differs from its default. Their stages always finish
            before this one begins, so that the DAG's arrows are the same under all settings.
        per_task: it runs once for each of QC and QI.
        gpu: it takes a slot of the pool for tasks that want a GPU.
        effect: it acts on the registry. A finished output is no proof of the effect: every call compares it with the registry.
        optional: the setting that switches it; switched off, it passes its rows on unchanged.
    """

    name: str
    title: str
    text: str
    needs: Mapping[str, str] = field(default_factory=dict)
    with_setting: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    per_task: bool = False
    gpu: bool = False
    effect: bool = False
    optional: str | None = None

    def inputs(self, settings: Settings) -> dict[str, str]:
        """Returns role → stage of every input in a run with these settings."""
        defaults = Settings()
        more = [roles for name, roles in self.with_setting.items() if value_at(settings, name) != value_at(defaults, name)]
        return dict(self.needs) | {role: stage for roles in more for role, stage in roles.items()}


STEPS: Final = (
    Step("ingest", "ingest labelled logs", "Reads the rows of the window and of the history before it; normalises, drops repeats."),
    Step(
        "validate",
        "validate the window",
        "Great Expectations: bad rows go to quarantine, a bad window stops the run here.",
        {"rows": "ingest"},
    ),
    Step(
        "split",
        "split train from dev",
        "By the hash of a query and its group, so that a query stays on its side for ever.",
        {"rows": "validate"},
    ),
    Step(
        "translate",
        "translate to new markets",
        "Makes training rows for onboarded and for low-resource languages; the label is kept.",
        {"rows": "split", "source": "ingest"},
        optional="translate.enabled",
    ),
    Step(
        "base",
        "base model",
        "Finds the base model, or builds the embedded one once and keeps it in the store.",
        {"rows": "translate", "translator": "translate", "source": "ingest"},
        gpu=True,
    ),
    Step(
        "mine",
        "mine hard negatives",
        "Adds near neighbours that are not relevant, behind guards against false negatives.",
        {"rows": "translate", "translator": "translate", "source": "ingest"},
        per_task=True,
        gpu=True,
        optional="mine.enabled",
    ),
    Step(
        "denoise",
        "denoise the labels",
        "Self-validation: rows whose label a confident prediction contradicts go to the ledger.",
        {"rows": "mine", "base": "base"},
        per_task=True,
        gpu=True,
        optional="denoise.enabled",
    ),
    Step(
        "train",
        "train the adapter",
        "LoRA on the yes/no answer. Goes on from its last checkpoint after a kill.",
        {"rows": "denoise", "base": "base"},
        with_setting={"train.tapt": {"other_rows": "translate"}},
        per_task=True,
        gpu=True,
    ),
    Step(
        "evaluate",
        "evaluate by language",
        "F1 and AUC on the judgement rows, beside the champion and always-yes.",
        {"dev": "translate", "adapter": "train", "base": "base"},
        per_task=True,
        gpu=True,
    ),
    Step(
        "gate",
        "gate: is it better?",
        "The verdict: publish, hold or needs-approval, with every reason and number.",
        {"evaluation": "evaluate"},
        per_task=True,
    ),
    Step(
        "publish",
        "publish to the registry",
        "Writes an immutable version, unless the verdict is hold. What serves does not change yet.",
        {
            "adapter": "train",
            "base": "base",
            "rows": "denoise",
            "dev": "translate",
            "translator": "translate",
            "evaluation": "evaluate",
            "verdict": "gate",
        },
        per_task=True,
        effect=True,
    ),
    Step(
        "rollout",
        "roll out to the servers",
        "The versions with the verdict publish, and those approved, answer their golden pairs; then the alias moves.",
        {"versions": "publish"},
        gpu=True,
        effect=True,
    ),
)
"""Every stage, in the order of the flat twin, without *report*."""

BEGIN: Final = Step(
    "begin",
    "begin the run",
    "Fixes what the run works with: settings, params, champion and onboarded languages; says what it will do for these.",
)
APPROVE: Final = Step(
    "approve",
    "approve: may it serve?",
    "A person answers where the verdict is needs-approval; any other verdict passes at once. Without an answer in time it is held.",
    {"version": "publish"},
    per_task=True,
)
REPORT: Final = Step("report", "report for people", "Written whatever happened before it, as soon as the run has begun.")
"""The stage that reports on the outputs that the run has so far."""

PER_TASK: Final = tuple(step.name for step in STEPS if step.per_task)
"""Stages that run once for each of QC and QI, in their order."""

COMMON: Final = tuple(step.name for step in STEPS[: [step.per_task for step in STEPS].index(True)])
"""Stages that run once, before the tasks' stages, in their order."""

TOGETHER: Final = tuple(step.name for step in STEPS if not step.per_task and step.name not in COMMON)
"""Stages that run once after all tasks' stages, on their outputs so far."""


def check(steps: Sequence[Step]) -> None:
    """Raises ProgramError for a step that needs another than those above it, or has the name of one of these."""
    above: list[str] = []
    for step in steps:
        for stage in (stage for roles in (step.needs, *step.with_setting.values()) for stage in roles.values()):
            if stage not in above:
                raise ProgramError(
                    f"step {step.name}: no step {stage!r} before it",
                    where="relevance_core/runs/steps.py",
                    expected=", ".join(above) or "a first step without inputs",
                    do="correct its `needs`, or its place in the table",
                )
        if step.name in above:
            raise ProgramError(f"two steps have the name {step.name!r}", where="relevance_core/runs/steps.py", do="rename one")
        above.append(step.name)


check(STEPS)

_BY_NAME: Final = {step.name: step for step in (BEGIN, *STEPS, APPROVE, REPORT)}


def step_of(name: str) -> Step:
    """Returns the step of that name. Raises SettingsError for a name that no step has."""
    if name not in _BY_NAME:
        raise SettingsError(f"no stage {name!r}", expected=", ".join(_BY_NAME))
    return _BY_NAME[name]
