"""The folder docker/: its scripts, the secrets of a first start and the store's policy."""

from __future__ import annotations

import configparser
import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType

from tests.support.places import PROJECT

DOCKER = PROJECT / "docker"
BUCKET = "relevance"
POLICY = json.loads((DOCKER / "store-policy.json").read_text())


def first_start(folder: Path) -> Path:
    """The secrets, made in `folder`."""
    subprocess.run([DOCKER / "first-start.sh", folder], check=True, capture_output=True)
    return folder


def load(name: str) -> ModuleType:
    """A script of docker/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def credentials(path: Path) -> tuple[str, str]:
    """The access key and the secret in a file of the AWS tools."""
    parser = configparser.ConfigParser()
    parser.read_string(path.read_text())
    return parser["default"]["aws_access_key_id"], parser["default"]["aws_secret_access_key"]
