"""Helpers that the sections of the report share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from relevance_core.pairs import TASK_NAMES, Task
from relevance_core.reporting.blocks import Block, Part, Section
from relevance_core.runs.artifacts import Artifact

Artifacts = Mapping[str, Artifact]
"""Outputs by stage name; `mine:QC` for a task's stage."""

EXAMPLES: Final = 12
"""Rows of a table of examples."""

LABELS: Final = {0: "not relevant", 1: "relevant"}


def section(name: str, title: str, lead: str, tasks: Sequence[Task], blocks: Callable[[Task], list[Block]]) -> Section | None:
    """Returns a section with a part for each task that has blocks to show, or None when no task has any.

    Args:
        name: the section's anchor.
        title: its heading.
        lead: its first paragraph.
        tasks: in the order of the parts.
        blocks: returns a task's blocks; none: the task has no part.
    """
    parts = [Part(f"{task} · {TASK_NAMES[task]}", found) for task in tasks if (found := blocks(task))]
    return Section(name, title, lead, parts) if parts else None


def stage_task(name: str) -> tuple[str, Any]:
    """Splits a name such as `mine:QC` into the stage and the task, or None for a stage without tasks."""
    stage, _, task = name.partition(":")
    return stage, task or None
