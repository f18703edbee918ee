"""The store that a command reads."""

from __future__ import annotations

from relevance_core.errors import NotFound
from relevance_core.store import Store, open_store
from relevance_core.store.disk import disk_errors


def existing_store(uri: str) -> Store:
    """The store at an address, for commands that only make sense where something was published. Raises NotFound for no such folder.

    In S3 there is no empty prefix to tell from a missing one; a bucket that is not there is refused by the first look into it.
    """
    store = open_store(uri)
    somewhere = store.local_path("adapters")
    if somewhere is None:
        return store
    folder = somewhere.parent
    with disk_errors("looking for the store", folder, "read"):
        if not folder.is_dir():
            raise NotFound(
                "there is no store",
                where=str(folder),
                expected="the folder that a run has published to",
                do="correct --store or RELEVANCE_STORE",
            )
    return store
