"""Object storage in a folder or on S3, behind one contract."""

import os
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

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


def open_store(uri: str, *, reading: bool = False) -> Store:
    """Returns the store at `uri`: `s3://bucket/prefix`, `file:///absolute/folder`, or a plain path.

    Nothing is read or written yet. Endpoint, region and credentials of S3 come from the usual `AWS_*` environment.
    Raises `SettingsError` for an address of another form.

    reading: the folder is another program's, to be read alone. Its name may hold any character: in an s3:// address all behind the
    bucket is the prefix as it is written, and nothing begins a query or a fragment.
    """
    scheme, host, path = _parts(uri, reading)
    if not scheme and path:
        return FileStore(Path(path).absolute())
    if scheme == "s3":
        return S3Store(host, path, endpoint=endpoint_from_environment(), region=region_from_environment())
    if scheme == "file" and host in {"", "localhost"} and path.startswith("/"):
        # As Path.as_uri() writes it: bytes of the name, which need not be UTF-8.
        return FileStore(Path(os.fsdecode(unquote_to_bytes(path))))
    raise SettingsError(
        f"{uri!r} is no address of a store",
        expected="s3://bucket/prefix, file:///absolute/folder or a path",
        do="correct the address: --store, or --source for rows",
    )


def _parts(uri: str, reading: bool) -> tuple[str, str, str]:
    """Returns scheme, host and path of an address; of S3 bucket and prefix, of a plain path "" twice and the path."""
    scheme, mark, rest = uri.partition("://")
    if not mark and not uri.startswith("file:"):
        return "", "", uri
    if reading and mark:
        host, slash, path = rest.partition("/")
        return scheme.lower(), host, path if scheme.lower() == "s3" else slash + path
    try:
        address = urlsplit(uri)
    except ValueError:  # a host in brackets that is none
        return "?", "", ""
    if address.query or address.fragment:
        return "?", "", ""
    return address.scheme, address.netloc, address.path.strip("/") if address.scheme == "s3" else address.path
