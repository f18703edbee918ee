"""docs/extending.md, followed to the letter in a copy of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from tests.support.loop import retrain_arguments, small_shop
from tests.support.places import DOCS, PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.airflow]

PARSE = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("parsed", "dags/relevance_retrain.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
task = module.dag.get_task("adapter.dedupe")
print(json.dumps([sorted(task.upstream_task_ids), sorted(task.downstream_task_ids), task.task_display_name, task.bash_command]))
"""


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the guide's edits."""
    copy = tmp_path_factory.mktemp("extended")
    for name in ("relevance_core", "plugins", "dags"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    section = (DOCS / "extending.md").read_text(encoding="utf-8").partition("## A translator")[0]
    module, step, role, task, arrows = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (copy / "relevance_core" / "stages" / "dedupe.py").write_text(module)
    replace(
        copy / "relevance_core" / "runs" / "steps.py",
        '    Step(\n        "denoise",',
        f'{indent(step.rstrip(), "    ")},\n    Step(\n        "denoise",',
    )
    replace(copy / "relevance_core" / "runs" / "steps.py", '{"rows": "mine", "base": "base"}', role.rstrip())
    dag = copy / "dags" / "relevance_retrain.py"
    replace(dag, "        denoise = StageOperator", f"{indent(task, ' ' * 8)}        denoise = StageOperator")
    replace(dag, "mine >> denoise >> train >> evaluate >> gate >> publish >> approve", arrows.rstrip())
    return copy


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
    file.write_text(text.replace(old, new), encoding="utf-8")


def run(copy: Path, *arguments: str) -> str:
    """Runs Python in the copy, and returns what it printed."""
    variables = {"PYTHONPATH": os.pathsep.join([str(copy), str(copy / "plugins")]), "OMP_NUM_THREADS": "1"}
    variables |= {"AIRFLOW_HOME": str(copy / "airflow"), "RELEVANCE_STORE": str(copy / "store")}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_loop_runs_with_the_stage_of_the_guide(extended: Path) -> None:
    """A night with *dedupe* between *mine* and *denoise* publishes; every row that *dedupe* got is kept or dropped."""
    shop = small_shop(extended / "shop")
    arguments = retrain_arguments(extended / "store", shop, "2026-10-04", "--tasks", "QC", "--set", "denoise.enabled=false")
    result = json.loads(run(extended, "-m", "relevance_core", *arguments).splitlines()[-1])
    rows = result["rows"]
    assert result["tasks"]["QC"]["published"]
    assert rows["dedupe"]["in"] == rows["mine"]["kept"] > 0
    assert rows["denoise"]["in"] == rows["dedupe"]["kept"] == rows["dedupe"]["in"] - rows["dedupe"]["dropped"]
    assert "dedupe" in run(extended, "-m", "relevance_core", "stage", "--help")


def test_the_dag_parses_with_the_task_of_the_guide(extended: Path) -> None:
    """The DAG file reads, and the task stands between *mine* and *denoise* with the title of the table."""
    upstream, downstream, title, command = json.loads(run(extended, "-c", PARSE).splitlines()[-1])
    assert (upstream, downstream, title) == (["adapter.mine"], ["adapter.denoise"], "drop repeats in another case")
    assert command.startswith("relevance stage dedupe ")
