"""*report*: one HTML file that shows a run's results and the reasons for them."""

from __future__ import annotations

from collections.abc import Mapping

from relevance_core.config import Settings
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage


@stage("report", uses=("window", "tasks", "onboard"))
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Writes `report.html`: the verdicts in words, the quality by language, and the fate of every row, as plots and examples.

    How: the sections of `relevance_core.reporting`, from whatever outputs the run has by now, so a run that stopped early gets a
    report too. The file holds everything it needs, works offline, and treats all text of a log as hostile.
    What it does not do: measure or decide anything; every number comes from a stage's output.
    Known limits: the plotting library is in every file, about 5 MB each.
    """
    out.bytes("report.html", build_report(settings, inputs.artifacts).encode())
    return Report(Rows(), {"sections": sorted(inputs.artifacts)})


def build_report(settings: Settings, artifacts: Mapping[str, Artifact]) -> str:
    """Renders the HTML report of a run. artifacts: its outputs by stage name, `mine:QC` for a stage of a task."""
    from relevance_core.reporting import build_page, render, titles

    return render(build_page(artifacts, settings.tasks, *titles(settings)))
