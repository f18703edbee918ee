"""The stages that are tasks of the DAG, and modules loaded from their files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from relevance_core.runs.steps import BEGIN, COMMON, PER_TASK, REPORT, TOGETHER

STAGES = [BEGIN.name, *COMMON, *TOGETHER, REPORT.name]
BY_TASK = [*PER_TASK]


def load_module(file: Path) -> Any:
    """A file's module, run anew."""
    spec = importlib.util.spec_from_file_location(f"loaded_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
