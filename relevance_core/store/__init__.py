"""Object storage in a folder or on S3, behind one contract."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from relevance_core.errors import SettingsError
from relevance_core.store.files import FileStore
from relevance_core.store.objects import Digest, Entry, Store, check_key
from relevance_core.store.s3 import S3Store, endpoint_from_environment, region_from_environment

__all__ = [
    "Digest",
    "Entry",
    "FileStore",
    "S3Store",
    "Store",
    "check_key",
    "open_store",
]


def open_store(uri: str) -> Store:
    """Returns the store at `uri`: `s3://bucket/prefix`, `file:///absolute/folder`, or a plain path.

    Nothing is read or written yet. Endpoint, region and credentials of S3 come from the usual `AWS_*` environment.
    Raises `SettingsError` for an address of another form.
    """
    scheme, host, path, query, fragment = urlsplit(uri)
    if scheme == "s3" and not query and not fragment:
        return S3Store(host, path.strip("/"), endpoint=endpoint_from_environment(), region=region_from_environment())
    if scheme == "file" and host in {"", "localhost"} and path.startswith("/"):
        return FileStore(Path(unquote(path)))
    if uri and "://" not in uri and not uri.startswith("file:"):
        return FileStore(Path(uri).absolute())
    raise SettingsError(
        f"{uri!r} is no address of a store",
        expected="s3://bucket/prefix, file:///absolute/folder or a path",
        do="correct the address: --store, or --source for rows",
    )
