"""Published adapters: immutable, content-addressed, under `adapters/<task>/<version>/`, the manifest written last."""

import errno
import re
import tempfile
from pathlib import Path

from relevance_core.errors import NotFound, RegistryError
from relevance_core.store.adapter_files import MANIFEST, read_adapter
from relevance_core.store.disk import disk_errors, file_chunks, make_folders
from relevance_core.store.manifest import VERSION_HEX, AdapterMeta, FileInfo, Manifest
from relevance_core.store.objects import Digest, Store, digest_of

_TASK = re.compile(r"[A-Z][A-Z0-9]{0,15}")
_VERSION = re.compile(rf"[0-9a-f]{{{VERSION_HEX}}}")
_MANIFEST_KEY = re.compile(rf"adapters/([a-z][a-z0-9]{{0,15}})/([0-9a-f]{{{VERSION_HEX}}})/{re.escape(MANIFEST)}")
_PREFIX = re.compile(rf"[0-9a-f]{{4,{VERSION_HEX}}}")


class Versions:
    """The versions of every task in one store; instances hold no state and may be shared."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def publish(self, task: str, folder: Path, meta: AdapterMeta) -> Manifest:
        """Store the adapter in `folder` as a version of `task` and return its manifest.

        The version is the digest of the content, so publishing the same again returns the manifest that is there. A
        publish that died half-way left no manifest; the next one completes it. Raises `RegistryError` for files that
        may not be published (see `read_adapter`) or a stored version that is damaged.
        """
        files, lora = read_adapter(folder, meta.base)
        manifest = Manifest.build(check_task(task), files, lora, meta)
        root = _root(task, manifest.version)
        if not self.store.exists(root + MANIFEST):
            self._upload(folder, manifest)
            if self.store.create(root + MANIFEST, manifest.to_bytes()):
                return manifest
        return self.require_intact(task, manifest.version)

    def _upload(self, folder: Path, manifest: Manifest) -> None:
        root = _root(manifest.task, manifest.version)
        for name, info in manifest.files.items():
            if self.store.create(root + name, folder / name):
                continue
            problem = _file_problem(name, info, self.store.digest(root + name))
            if problem:
                raise RegistryError(
                    f"an unfinished publish left a damaged file: {problem}",
                    where=self.store.uri_of(root + name),
                    do="delete that object and publish again; no manifest names it yet",
                )

    def manifest(self, task: str, version: str) -> Manifest:
        """The manifest of a full version id. Raises `NotFound`, or `RegistryError` if it can't be read or contradicts itself."""
        key = _root(task, version) + MANIFEST
        try:
            data = self.store.read(key)
        except NotFound as error:
            raise _no_version(task, version, self.store) from error
        manifest = Manifest.from_bytes(data, self.store.uri_of(key))
        problems = manifest.problems()
        if (manifest.task, manifest.version) != (task, version):
            problems.append(f"it is the manifest of {manifest.task} {manifest.version}")
        if problems:
            raise _damaged(task, version, problems, self.store)
        return manifest

    def tasks(self) -> list[str]:
        """Tasks that have a version, sorted."""
        matches = (_MANIFEST_KEY.fullmatch(entry.key) for entry in self.store.list("adapters/"))
        return sorted({match[1].upper() for match in matches if match})

    def version_ids(self, task: str) -> list[str]:
        """Ids of the versions whose manifest is there, sorted; unfinished publishes are not seen."""
        matches = (_MANIFEST_KEY.fullmatch(entry.key) for entry in self.store.list(f"adapters/{check_task(task).lower()}/"))
        return sorted(match[2] for match in matches if match)

    def versions(self, task: str) -> list[Manifest]:
        """Manifests of all versions, oldest data interval first. Raises `RegistryError` at a damaged one."""
        manifests = [self.manifest(task, version) for version in self.version_ids(task)]
        return sorted(manifests, key=lambda manifest: (manifest.created, manifest.version))

    def find(self, task: str, reference: str) -> Manifest:
        """The manifest that a version id, or an unambiguous beginning of one (4 digits or more), means."""
        if not _PREFIX.fullmatch(reference):
            raise RegistryError(f"{reference!r} names no version of {task}", expected=f"4 to {VERSION_HEX} hexadecimal digits")
        found = [version for version in self.version_ids(task) if version.startswith(reference)]
        if len(found) > 1:
            raise RegistryError(f"{reference!r} fits several versions of {task}: {', '.join(found)}", do="give more digits")
        if not found:
            raise _no_version(task, reference, self.store)
        return self.manifest(task, found[0])

    def verify(self, task: str, version: str) -> list[str]:
        """Everything that is wrong with a version, as text; empty when each file has the size and digest of the manifest.

        Reads every byte of the version.
        """
        _root(task, version)
        try:
            return self._problems(self.manifest(task, version))
        except (NotFound, RegistryError) as error:
            return [str(error)]

    def require_intact(self, task: str, version: str) -> Manifest:
        """The manifest of a version that `verify` finds nothing wrong with; raises `NotFound` or `RegistryError`."""
        manifest = self.manifest(task, version)
        problems = self._problems(manifest)
        if problems:
            raise _damaged(task, version, problems, self.store)
        return manifest

    def _problems(self, manifest: Manifest) -> list[str]:
        root = _root(manifest.task, manifest.version)
        stored = {entry.key.removeprefix(root) for entry in self.store.list(root)} - {MANIFEST}
        problems = [f"{name}: not in the manifest" for name in sorted(stored - set(manifest.files))]
        for name, info in manifest.files.items():
            problems.append(_file_problem(name, info, self.store.digest(root + name)) if name in stored else f"{name}: missing")
        return [problem for problem in problems if problem]

    def fetch(self, task: str, version: str, folder: Path) -> Path:
        """Download a version into `folder`, which appears only when every file has its digest; return `folder`.

        A folder that already holds exactly this version is left alone; any other existing folder is refused.
        Raises `NotFound`, `RegistryError`, `StoreError`.
        """
        manifest = self.manifest(task, version)
        if folder.exists():
            _require_folder(folder, manifest)
            return folder
        with disk_errors("fetching a version", folder):
            make_folders(folder.parent)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name[:40]}.") as scratch:
                whole = Path(scratch) / "version"
                self._download(manifest, whole)
                _rename_folder(whole, folder, manifest)
        return folder

    def _download(self, manifest: Manifest, folder: Path) -> None:
        root = _root(manifest.task, manifest.version)
        for name in manifest.files:
            try:
                self.store.download(root + name, folder / name)
            except NotFound as error:
                raise _damaged(manifest.task, manifest.version, [f"{name}: missing"], self.store) from error
        problems = _folder_problems(folder, manifest)
        if problems:
            raise _damaged(manifest.task, manifest.version, problems, self.store)
        (folder / MANIFEST).write_bytes(manifest.to_bytes())


def _no_version(task: str, version: str, store: Store) -> NotFound:
    return NotFound(f"{task} has no version {version}", where=store.uri, do=f"see `relevance registry list --task {task}`")


def _damaged(task: str, version: str, problems: list[str], store: Store) -> RegistryError:
    return RegistryError(
        f"{task} {version} is damaged: {'; '.join(problems)}",
        where=store.uri_of(_root(task, version) + MANIFEST),
        do="promote another version, and restore this one's objects from a backup; it is never repaired in place",
    )


def check_task(task: str) -> str:
    """Return `task` if it can name a folder of versions, else raise `RegistryError`."""
    if not _TASK.fullmatch(task):
        raise RegistryError(f"{task!r} is no task", expected="QC or QI")
    return task


def _root(task: str, version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise RegistryError(f"{version!r} is no version", expected=f"{VERSION_HEX} hexadecimal digits")
    return f"adapters/{check_task(task).lower()}/{version}/"


def _file_problem(name: str, expected: FileInfo, found: Digest) -> str:
    if found.size != expected.size:
        return f"{name}: {found.size} bytes, the manifest says {expected.size}"
    if found.sha256 != expected.sha256:
        return f"{name}: SHA-256 {found.sha256}, the manifest says {expected.sha256}"
    return ""


def _folder_problems(folder: Path, manifest: Manifest) -> list[str]:
    """How the files in `folder` differ from the manifest's."""
    with disk_errors("reading a fetched version", folder):
        names = {path.name for path in folder.iterdir()} - {MANIFEST}
        problems = [f"{name}: missing or unexpected" for name in sorted(names ^ set(manifest.files))]
        for name in sorted(names & set(manifest.files)):
            problems.append(_file_problem(name, manifest.files[name], digest_of(file_chunks(folder / name))))
    return [problem for problem in problems if problem]


def _require_folder(folder: Path, manifest: Manifest) -> None:
    problems = _folder_problems(folder, manifest)
    if problems:
        raise RegistryError(
            f"the folder does not hold {manifest.name}: {'; '.join(problems)}",
            where=str(folder),
            do="remove that folder and fetch again",
        )


def _rename_folder(whole: Path, folder: Path, manifest: Manifest) -> None:
    """Rename; where another fetch of the same version was faster, its folder serves as well."""
    try:
        whole.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        _require_folder(folder, manifest)
