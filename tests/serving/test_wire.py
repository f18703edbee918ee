"""What is asked of a vLLM server, and which of its answers are believed."""

from __future__ import annotations

import math
from typing import Any

import httpx
import numpy as np
import pytest

from relevance_core.errors import ServingError, SettingsError
from relevance_core.serving.wire import Refused, Server, Unavailable, UnknownVersion, body, endpoint, listed, p_yes, payload

NAME = "relevance-qc@0123456789abcdef"
ANSWERS = (7, 9)
URL = "http://127.0.0.1:9"


def row(index: int, yes: float, no: float, **more: float) -> dict[str, Any]:
    """One row as vLLM writes it, the sampled token among the two."""
    return {"index": index, "logprobs": {"top_logprobs": [{"token_id:7": yes, "token_id:9": no, **more}]}}


def answered(*rows: dict[str, Any], model: str = NAME) -> dict[str, Any]:
    return {"model": model, "choices": list(rows)}


def test_a_request_asks_for_the_two_answers_and_nothing_else() -> None:
    """Token ids go out as they are; one greedy token, with exactly the log probabilities of yes and no, as ids."""
    assert payload(NAME, [[1, 2], [3]], ANSWERS) == {
        "model": NAME,
        "prompt": [[1, 2], [3]],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": 2,
        "logprob_token_ids": [7, 9],
        "return_tokens_as_token_ids": True,
    }


def test_p_is_the_sigmoid_of_the_difference() -> None:
    """0.6 and 0.2 give 0.75, an impossible answer gives 0 or 1; the scores stand in the prompts' order, whatever the answer's."""
    impossible = -9999.0
    rows = (row(1, impossible, -1.0), row(0, math.log(0.6), math.log(0.2)), row(2, -0.5, impossible, **{"token_id:3": -0.1}))
    found = p_yes(answered(*rows), 3, ANSWERS, name=NAME)
    assert found == pytest.approx([0.75, 0.0, 1.0])
    assert found.dtype == np.float64


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (answered(row(0, -1, -1)), "1 rows; .*expected: 2 rows"),
        ({"model": NAME}, "no rows"),
        (answered(row(0, -1, -1), row(0, -1, -1)), "a row 0, or has it twice"),
        (answered(row(0, -1, -1), row(2, -1, -1)), "a row 2"),
        (answered(row(0, -1, -1), row(-1, -1, -1)), "a row -1"),
        (answered(row(0, -1, -1), {"index": 1, "logprobs": {"top_logprobs": [{"token_id:7": -1.0}]}}), "'token_id:9'"),
        (answered(row(0, -1, -1), {"index": 1, "logprobs": {"top_logprobs": [{" yes": -1.0, " no": -1.0}]}}), "'token_id:7'"),
        (answered(row(0, -1, -1), {"index": 1, "logprobs": None}), "NoneType"),
        (answered(row(0, -1, -1), row(1, math.nan, -1)), "nan and -1"),
        (answered(row(0, -1, -1), row(1, -9999.0, -9999.0)), "-9999.0 and -9999.0"),
        (answered(row(0, -1, -1), row(1, -1, -1), model="relevance-qc@fedcba9876543210"), "by 'relevance-qc@fedc"),
    ],
)
def test_an_answer_that_is_not_the_one_asked_for_is_an_error(answer: dict[str, Any], told: str) -> None:
    """Another length, order, version or token, and what is no number, never become a score; the error names the server."""
    with pytest.raises(ServingError, match=told) as caught:
        p_yes(answer, 2, ANSWERS, name=NAME, where=URL)
    assert caught.value.where == URL


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, UnknownVersion),
        (400, Refused),
        (403, Refused),
        (408, Unavailable),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_a_status_says_whether_another_try_can_help(status: int, kind: type[ServingError]) -> None:
    """404 means that the version is not there, 4xx that it is no use to ask again, 408, 429 and 5xx that it may be."""
    response = httpx.Response(status, json={"error": {"message": "because"}})
    with pytest.raises(ServingError, match=f"{status}: because") as caught:
        body(response, URL)
    assert type(caught.value) is kind


def test_a_page_that_is_no_json_is_not_believed() -> None:
    """A proxy's friendly page with status 200 is an error that shows how it begins."""
    with pytest.raises(Unavailable, match="no JSON: '<html>sorry"):
        body(httpx.Response(200, text="<html>sorry</html>"), URL)
    with pytest.raises(Unavailable, match="502: <html>sorry"):
        body(httpx.Response(502, text="<html>sorry</html>"), URL)


def test_the_base_is_the_model_without_a_parent() -> None:
    """Of the listed models the one without a parent is the base and the others are adapters; anything else is refused."""
    cards = [{"id": "tiny@1", "parent": None}, {"id": NAME, "parent": "tiny@1"}]
    assert listed({"data": cards}, URL) == ("tiny@1", frozenset([NAME]))
    for wrong in ({"data": cards[1:]}, {"data": [*cards, {"id": "other"}]}, {"data": ["x"]}, [], {}):
        with pytest.raises(Unavailable, match="list of models"):
            listed(wrong, URL)


def test_a_server_that_is_not_there_is_told_by_its_address() -> None:
    """Nothing listens: it is not healthy, and every question is an error with the address."""
    with Server(URL + "/", timeout=1) as server:
        assert not server.healthy()
        for ask in (server.base, server.adapters, lambda: server.score(NAME, [[1]], ANSWERS), lambda: server.unload(NAME)):
            with pytest.raises(Unavailable, match=f"can't be reached.*where: {URL};"):
                ask()


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://a", "http://", "http://a?b", "http://user:secret@a", "http://a:b"])
def test_what_is_no_address_is_a_wrong_setting(url: str) -> None:
    """An address that can't be a server's is refused before anything is sent, the place in the settings named."""
    with pytest.raises(SettingsError, match=r"serving\.endpoints"):
        endpoint(url)
