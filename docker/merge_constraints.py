"""pip's constraints for adding this package to an image that has an environment already.

Every package that is there stays at its version, and one that is not comes at the version of the given file of constraints. The
hashes of that file are left out: with them pip would install nothing without a hash, and this package's folder has none.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import distributions
from pathlib import Path

PINNED = re.compile(r"([A-Za-z0-9._-]+)==\S+")


def merged(there: Iterable[tuple[str, str]], pinned: Iterable[str]) -> Iterator[str]:
    """Lines of constraints: (name, version) of what is there, then the pinned versions of other packages."""
    known = {_normal(name): version for name, version in there}
    yield from (f"{name}=={version}" for name, version in sorted(known.items()))
    yield from (found[0] for line in pinned if (found := PINNED.match(line)) and _normal(found[1]) not in known)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    here = ((found.metadata["Name"], found.version) for found in distributions())
    sys.stdout.writelines(f"{line}\n" for line in merged(here, Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()))
