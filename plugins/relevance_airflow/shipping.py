"""Keeps two copies of this package, one from the installed wheel and one from Airflow's plugins folder, from being mixed.

Airflow appends its plugins folder to `sys.path`, so an installed package hides the folder's, whatever their versions. It also loads
every file of that folder by its bare name, except those that `.airflowignore` names, and every entry point of `airflow.plugins`. A
plugin that both of them register is an error in Airflow's list of plugins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

from relevance_core.errors import SettingsError


def refuse_other_versions(package: Path, path: Iterable[str]) -> None:
    """Compares the package with every copy of it on the path.

    Args:
        package: the folder of the package that is imported.
        path: the folders in which Python looks for packages, as in `sys.path`.

    Raises:
        SettingsError: a copy has other files; the message names both folders and the first file that differs.
    """
    for copy in copies(package, path):
        differing = first_difference(package, copy)
        if differing:
            raise SettingsError(
                f"{package.name} is there in two versions, which differ in {differing}",
                where=f"{package} and {copy}",
                expected="the same files in both, or only one of them",
                do=f"remove {package.name} and relevance_plugin.py from Airflow's plugins folder, since the installed package does"
                " without them, or install the package from the checkout that the folder comes from; then restart Airflow",
            )


def copies(package: Path, path: Iterable[str]) -> Iterator[Path]:
    """Yields the other folders of the package's name on the path, each once; a link to the package itself is no other folder."""
    seen = {package.resolve()}
    for entry in path:
        copy = Path(entry) / package.name
        if (copy / "__init__.py").is_file() and copy.resolve() not in seen:
            seen.add(copy.resolve())
            yield copy


def first_difference(one: Path, other: Path) -> str | None:
    """Returns the first module, by name, that is not byte-identical in the two folders; None where all are."""
    modules, others = _modules(one), _modules(other)
    return next((name for name in sorted(modules | others) if modules.get(name) != others.get(name)), None)


def _modules(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.py")}


def has_entry_point() -> bool:
    """Tells whether an installed package registers the plugin, so that the plugins folder must not do it again."""
    return bool(entry_points(group="airflow.plugins", name="relevance"))
