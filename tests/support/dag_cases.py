"""The stages that are tasks of the DAG, and modules loaded from their files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

STAGES = ["begin", "ingest", "validate", "split", "translate", "base", "rollout", "report"]
BY_TASK = ["mine", "denoise", "train", "evaluate", "gate", "publish"]


def load_module(file: Path) -> Any:
    """A file's module, run anew."""
    spec = importlib.util.spec_from_file_location(f"loaded_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
