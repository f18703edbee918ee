"""The overview page as a user with some rights gets it, and a page's text without its markup."""

from __future__ import annotations

import html
import re

import httpx
from starlette.testclient import TestClient
from starlette.types import Scope

from relevance_core.store import Store
from relevance_core.ui.access import Right, User
from relevance_core.ui.app import create_app


class Everyone:
    """Lets everybody in, with these rights."""

    def __init__(self, *rights: Right) -> None:
        self.rights = rights

    async def user(self, scope: Scope) -> User:
        return User("ada")

    def may(self, user: User, right: Right) -> bool:
        return right in self.rights


def overview_page(store: Store, *rights: Right) -> str:
    """The page's HTML for a user with these rights, by default all."""
    client = TestClient(create_app(lambda: store, Everyone(*(rights or ("read", "edit")))))
    answer: httpx.Response = client.get("/")
    assert answer.status_code == 200
    return answer.text


def text_of(page: str) -> str:
    """What the page says, without markup and with single spaces."""
    body = re.sub(r"<script.*?</script>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())
