"""Published adapters: immutable, content-addressed, under `adapters/<task>/<version>/`; the manifest is written last."""

import errno
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relevance_core.errors import NotFound, RegistryError, SettingsError
from relevance_core.registry.adapter_files import MANIFEST, read_adapter
from relevance_core.registry.manifest import AdapterMeta, FileInfo, Manifest
from relevance_core.registry.names import VERSION_HEX
from relevance_core.registry.signing import SIGNATURE, Key, require_signed, signature_of
from relevance_core.store.disk import disk_errors, file_chunks, make_folders
from relevance_core.store.objects import Digest, Store, digest_of

_TASK = re.compile(r"[A-Z][A-Z0-9]{0,15}")
_VERSION = re.compile(rf"[0-9a-f]{{{VERSION_HEX}}}")
ADAPTERS: Final = "adapters/"
"""Prefix of the versions in a store."""
_MANIFEST_KEY = re.compile(rf"{ADAPTERS}([a-z][a-z0-9]{{0,15}})/([0-9a-f]{{{VERSION_HEX}}})/{re.escape(MANIFEST)}")
_PREFIX = re.compile(rf"[0-9a-f]{{4,{VERSION_HEX}}}")
#: A version's files that no manifest names.
DOCUMENTS = frozenset({MANIFEST, SIGNATURE})


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A manifest read from the store, with its documents as stored: file name → bytes."""

    manifest: Manifest
    documents: dict[str, bytes]


class Versions:
    """The versions of every task in one store; instances hold no state and may be shared."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def publish(self, task: str, folder: Path, meta: AdapterMeta, sign: Key | None = None) -> Manifest:
        """Stores the adapter in `folder` as a version of `task` and returns its manifest.

        The version is the digest of the content, so publishing the same again returns the existing manifest. An interrupted publish
        leaves no manifest, or no signature; the next publish completes it.

        Args:
            task: QC or QI.
            folder: the adapter, as `read_adapter` accepts it.
            meta: the publisher's statements.
            sign: signs the manifest; None: unsigned.

        Raises:
            RegistryError: a file may not be published, or the stored version is damaged or signed with another key.
        """
        files, lora = read_adapter(folder, meta.base)
        manifest = Manifest.build(check_task(task), files, lora, meta)
        root = _root(task, manifest.version)
        if not self.store.exists(root + MANIFEST):
            self._upload(folder, manifest)
            created = self.store.create(root + MANIFEST, manifest.to_bytes())
        else:
            created = False
        stored = manifest if created else self.require_intact(task, manifest.version)
        if sign:
            self._sign(stored, manifest, sign)
        return stored

    def _sign(self, stored: Manifest, stated: Manifest, key: Key) -> None:
        """Signs the stored manifest, which another publisher of the same version may have written.

        The stored bytes are signed, not this publisher's own: two publishers with different metrics would otherwise mix a manifest
        with the other's signature. A version id does not cover the base's address, so that must equal the one this publisher
        states.
        """
        where = self.store.uri_of(_root(stored.task, stored.version) + MANIFEST)
        if self.signature(stored.task, stored.version) is None:
            older = stored.base.model_copy(update={"digest": stated.base.digest}) if not stored.base.digest else stored.base
            if older != stated.base:
                raise RegistryError(
                    f"the unsigned manifest of {stored.name} names the base at {stored.base.uri!r}", where=where,
                    expected=repr(stated.base.uri), do="look who published it; delete its manifest.json if it is not yours",
                )  # fmt: skip
            data = self.store.read(_root(stored.task, stored.version) + MANIFEST)
            self.store.create(_root(stored.task, stored.version) + SIGNATURE, signature_of(data, key))
        self.manifest(stored.task, stored.version, key)

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

    def manifest(self, task: str, version: str, key: Key | None = None) -> Manifest:
        """Returns the manifest of a full version id.

        key: the manifest must be signed with it; None: signatures are not checked.

        Raises `NotFound`, or `RegistryError` for a manifest that can't be read, contradicts itself, or lacks the signature.
        """
        return self.stored(task, version, key).manifest

    def stored(self, task: str, version: str, key: Key | None = None) -> StoredVersion:
        """Returns the manifest as `manifest` does, with its documents as stored; the parsed bytes are the verified bytes."""
        name = _root(task, version) + MANIFEST
        try:
            documents = {MANIFEST: self.store.read(name)}
        except NotFound as error:
            raise _no_version(task, version, self.store) from error
        if key:
            signature = self.signature(task, version)
            require_signed(documents[MANIFEST], signature, key, self.store.uri_of(name))
            documents[SIGNATURE] = signature or b""
        return StoredVersion(self._parsed(task, version, documents[MANIFEST]), documents)

    def _parsed(self, task: str, version: str, data: bytes) -> Manifest:
        manifest = Manifest.from_bytes(data, self.store.uri_of(_root(task, version) + MANIFEST))
        problems = contradictions(manifest, task, version)
        if problems:
            raise _damaged(task, version, problems, self.store)
        return manifest

    def signature(self, task: str, version: str) -> bytes | None:
        """Returns the stored signature of a version's manifest (see `signing`); None for an unsigned version."""
        try:
            return self.store.read(_root(task, version) + SIGNATURE)
        except NotFound:
            return None

    def tasks(self) -> list[str]:
        """Returns the tasks that have a version, sorted."""
        found = (version_at(entry.key) for entry in self.store.list(ADAPTERS))
        return sorted({version[0] for version in found if version})

    def version_ids(self, task: str) -> list[str]:
        """Returns the ids of versions that have a manifest, sorted; unfinished publishes have none."""
        found = (version_at(entry.key) for entry in self.store.list(f"{ADAPTERS}{check_task(task).lower()}/"))
        return sorted(version[1] for version in found if version)

    def versions(self, task: str) -> list[Manifest]:
        """Returns the manifests of all versions, oldest data interval first. Raises `RegistryError` at a damaged one."""
        manifests = [self.manifest(task, version) for version in self.version_ids(task)]
        return sorted(manifests, key=lambda manifest: (manifest.created, manifest.version))

    def find(self, task: str, reference: str) -> Manifest:
        """Returns the manifest for a version id or an unambiguous beginning of it (4 digits or more), in either case of letters.

        Raises `NotFound`, `SettingsError` for a malformed reference, or `RegistryError` for an ambiguous one or a damaged version.
        """
        reference = reference.lower()
        if not _PREFIX.fullmatch(reference):
            raise SettingsError(f"{reference!r} names no version of {task}", expected=f"4 to {VERSION_HEX} hexadecimal digits")
        found = [version for version in self.version_ids(task) if version.startswith(reference)]
        if len(found) > 1:
            raise RegistryError(f"{reference!r} fits several versions of {task}: {', '.join(found)}", do="give more digits")
        if not found:
            raise _no_version(task, reference, self.store)
        return self.manifest(task, found[0])

    def verify(self, task: str, version: str, key: Key | None = None) -> list[str]:
        """Returns every defect of a version, as text; empty when each file has the size and digest in the manifest.

        Reads every byte of the version. With a key, a missing or wrong signature is a defect too.
        """
        _root(task, version)
        try:
            return self._problems(self.stored(task, version, key).manifest)
        except (NotFound, RegistryError) as error:
            return [str(error)]

    def require_intact(self, task: str, version: str) -> Manifest:
        """Returns the manifest of a version without defects (see `verify`); raises `NotFound` or `RegistryError` otherwise."""
        manifest = self.manifest(task, version)
        problems = self._problems(manifest)
        if problems:
            raise _damaged(task, version, problems, self.store)
        return manifest

    def _problems(self, manifest: Manifest) -> list[str]:
        root = _root(manifest.task, manifest.version)
        stored = {entry.key.removeprefix(root) for entry in self.store.list(root)} - DOCUMENTS
        problems = [f"{name}: not in the manifest" for name in sorted(stored - set(manifest.files))]
        for name, info in manifest.files.items():
            problems.append(_file_problem(name, info, self.store.digest(root + name)) if name in stored else f"{name}: missing")
        return [problem for problem in problems if problem]

    def fetch(self, task: str, version: str, folder: Path, key: Key | None = None) -> Path:
        """Downloads a version into `folder`, which appears only once every file has its digest, and returns `folder`.

        A folder that already holds exactly this version is left alone; any other existing folder is refused.

        Args:
            task: QC or QI.
            version: full version id.
            folder: where the version goes.
            key: the manifest must be signed with it; None: signatures are not checked.

        Raises:
            NotFound: there is no such version.
            RegistryError: the version is damaged or not signed with `key`, or `folder` holds something else.
            StoreError: the store or the disk failed.
        """
        return self.fetch_stored(self.stored(task, version, key), folder)

    def fetch_stored(self, stored: StoredVersion, folder: Path) -> Path:
        """Downloads a version as `fetch` does, its manifest having been read already."""
        if folder.exists():
            _require_folder(folder, stored.manifest)
            return folder
        with disk_errors("fetching a version", folder):
            make_folders(folder.parent)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name[:40]}.") as scratch:
                whole = Path(scratch) / "version"
                self._download(stored, whole)
                _rename_folder(whole, folder, stored.manifest)
        return folder

    def _download(self, stored: StoredVersion, folder: Path) -> None:
        manifest = stored.manifest
        self._require_sizes(manifest)
        for name in manifest.files:
            self.store.download(_root(manifest.task, manifest.version) + name, folder / name)
        problems = folder_problems(folder, manifest)
        if problems:
            raise _damaged(manifest.task, manifest.version, problems, self.store)
        for name, data in stored.documents.items():
            (folder / name).write_bytes(data)

    def _require_sizes(self, manifest: Manifest) -> None:
        """Raises for a missing file or a wrong size before anything is written; a huge object could otherwise fill the disk."""
        root = _root(manifest.task, manifest.version)
        sizes = {entry.key.removeprefix(root): entry.size for entry in self.store.list(root)}
        problems = [f"{name}: missing" for name in manifest.files if name not in sizes]
        for name, info in manifest.files.items():
            if sizes.get(name, info.size) != info.size:
                problems.append(_size_problem(name, info, sizes[name]))
        if problems:
            raise _damaged(manifest.task, manifest.version, problems, self.store)


def _no_version(task: str, version: str, store: Store) -> NotFound:
    return NotFound(f"{task} has no version {version}", where=store.uri, do=f"see `relevance registry list --task {task}`")


def _damaged(task: str, version: str, problems: list[str], store: Store) -> RegistryError:
    return RegistryError(
        f"{task} {version} is damaged: {'; '.join(problems)}",
        where=store.uri_of(_root(task, version) + MANIFEST),
        do="promote another version, and restore this one's objects from a backup; it is never repaired in place",
    )


def check_task(task: str) -> str:
    """Returns `task` if it can name a folder of versions, else raises `RegistryError`."""
    if not _TASK.fullmatch(task):
        raise RegistryError(f"{task!r} is no task", expected="QC or QI")
    return task


def _root(task: str, version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise RegistryError(f"{version!r} is no version", expected=f"{VERSION_HEX} hexadecimal digits")
    return f"{ADAPTERS}{check_task(task).lower()}/{version}/"


def contradictions(manifest: Manifest, task: str, version: str) -> list[str]:
    """Returns contradictions within a manifest, and between it and its place in the store; empty for a sound manifest."""
    elsewhere = (manifest.task, manifest.version) != (task, version)
    return manifest.problems() + [f"it is the manifest of {manifest.task} {manifest.version}"] * elsewhere


def version_at(key: str) -> tuple[str, str] | None:
    """Returns task and version of a manifest's key; None for any other key."""
    match = _MANIFEST_KEY.fullmatch(key)
    return (match[1].upper(), match[2]) if match else None


def file_key(manifest: Manifest, name: str) -> str:
    """Returns the key of a version's file."""
    return _root(manifest.task, manifest.version) + name


def _file_problem(name: str, expected: FileInfo, found: Digest) -> str:
    if found.size != expected.size:
        return _size_problem(name, expected, found.size)
    if found.sha256 != expected.sha256:
        return f"{name}: SHA-256 {found.sha256}, the manifest says {expected.sha256}"
    return ""


def _size_problem(name: str, expected: FileInfo, size: int) -> str:
    return f"{name}: {size} bytes, the manifest says {expected.size}"


def folder_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Returns how the files in `folder`, documents apart, differ from the manifest; reads every byte. Raises `StoreError`."""
    with disk_errors("reading a fetched version", folder, "read"):
        names = {path.name for path in folder.iterdir()} - DOCUMENTS
        problems = [f"{name}: missing or unexpected" for name in sorted(names ^ set(manifest.files))]
        for name in sorted(names & set(manifest.files)):
            problems.append(_file_problem(name, manifest.files[name], digest_of(file_chunks(folder / name))))
    return [problem for problem in problems if problem]


def _require_folder(folder: Path, manifest: Manifest) -> None:
    problems = folder_problems(folder, manifest)
    if problems:
        raise RegistryError(
            f"the folder does not hold {manifest.name}: {'; '.join(problems)}",
            where=str(folder),
            do="remove that folder and fetch again",
        )


def _rename_folder(whole: Path, folder: Path, manifest: Manifest) -> None:
    """Renames the folder; if another fetch of the same version was faster, its folder is kept."""
    try:
        whole.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        _require_folder(folder, manifest)
