"""The client: whatever servers, the alias and the store do, a call is answered by one version or fails with a cause.

The servers here are stand-ins (tests/stand_in.py), because a real vLLM can't be made to answer nonsense or to hang at will.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from relevance_core.cli import main
from relevance_core.config import ServingSettings
from relevance_core.errors import NotFound, RegistryError, ServingError, SettingsError, StoreError
from relevance_core.machine import free_port
from relevance_core.processes import Progress, set_progress
from relevance_core.registry import BaseInfo, Manifest, PromptInfo, Registry
from relevance_core.serving import fleet
from relevance_core.serving.bulk import score_rows
from relevance_core.serving.client import AsyncScoringClient, Pair, Scores, ScoringClient
from relevance_core.serving.prompts import open_prompts
from relevance_core.serving.wire import Refused, Unavailable, UnknownVersion
from relevance_core.store import FileStore
from relevance_core.translators import English, GlossaryTranslator, Term, add_english, save, translate_and_remember
from tests.support.models_fixture import make_tokenizer
from tests.support.registry_cases import make_adapter, make_meta
from tests.support.stand_in import StandIn, expected

BASE = "tiny@b1"
OTHER = "tiny@b2"
PAIRS = [Pair("en", f"red shoes {n}", f"Sports > Shoes {n % 7}") for n in range(20)]
FAST = ServingSettings(staleness_seconds=0.2, timeout_seconds=2)
PATIENT = ServingSettings(staleness_seconds=3600, timeout_seconds=2)


class Shop:
    """A registry whose versions share a base, of which there is only the tokenizer."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.base, self.store = folder, base, FileStore(folder / "store")
        self.registry = Registry(self.store)

    def publish(self, task: str = "QC", *, label: str = "b1", **changes: Any) -> Manifest:
        base = BaseInfo(id="tiny", digest=label, uri=str(self.base))
        adapter = self.folder / "adapter"
        if not adapter.exists():
            make_adapter(adapter)
        prompt = PromptInfo(name="compact", version="1", max_tokens=64)
        return self.registry.publish(task, adapter, make_meta(**({"base": base, "prompt": prompt} | changes)))

    def promote(self, *manifests: Manifest) -> None:
        self.registry.promote({manifest.task: manifest.version for manifest in manifests}, who="test", why="test")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def shop(tmp_path: Path, base: Path) -> Shop:
    return Shop(tmp_path, base)


@pytest.fixture
def champion(shop: Shop) -> Manifest:
    manifest = shop.publish()
    shop.promote(manifest)
    return manifest


@pytest.fixture
def start() -> Iterator[Callable[..., StandIn]]:
    """Starts stand-ins; they end with the test."""
    started: list[StandIn] = []

    def one(base: str = BASE, **options: Any) -> StandIn:
        started.append(StandIn(base, **options).start())
        return started[-1]

    yield one
    for server in started:
        server.stop()


def truth(shop: Shop, manifest: Manifest, pairs: list[Pair]) -> list[float]:
    """What the stand-in answers for each pair under a version."""
    opened = open_prompts(shop.store, manifest.task, manifest.version, None)  # type: ignore[arg-type]
    return [expected(manifest.name, ids) for ids in opened.encode(pairs)]


def require(scores: Scores, shop: Shop, manifest: Manifest, pairs: list[Pair] = PAIRS) -> None:
    """All of it by this version, each score at its pair's place, decided at the version's threshold."""
    assert scores.p.tolist() == pytest.approx(truth(shop, manifest, pairs))
    assert (scores.task, scores.version, scores.threshold) == (manifest.task, manifest.version, manifest.threshold)
    assert scores.relevant.tolist() == [p >= manifest.threshold for p in scores.p]


def test_pairs_go_in_and_scores_decision_and_version_come_out(shop: Shop, champion: Manifest, start: Any) -> None:
    """Batches of three on several connections: every score stands at its pair's place, decided at the version's threshold."""
    server = start()
    seen: list[int] = []
    with ScoringClient(shop.store.uri, [server.url], FAST, batch=3) as client:
        scores = client.score("QC", PAIRS, done=seen.append)
        require(scores, shop, champion)
        assert scores.p.dtype == np.float64
        assert 0 < scores.relevant.sum() < 20
        assert sorted(rows for _, rows in server.requests) == [2, 3, 3, 3, 3, 3, 3]
        assert seen == sorted(seen)
        assert seen[-1] == 20
        none = client.score("QC", [])
    assert none.p.shape == (0,)
    assert none.version == champion.version


def test_a_pair_is_spelled_as_in_training(shop: Shop, champion: Manifest) -> None:
    """Width, white space and invisible characters of query and target, a missing title and an upper-case language make no odds."""
    opened = open_prompts(shop.store, "QC", champion.version, None)
    plain, untitled, dressed, none = opened.encode(
        [
            Pair("en", "red shoes", "Shoes"),
            Pair("en", "red", ""),
            Pair("EN", " red\u200b\tｓhoes", "Sho\u00ades"),
            Pair("en", "red", None),
        ]
    )
    assert (dressed, none) == (plain, untitled)


def test_the_query_is_translated_as_the_version_wants_it(shop: Shop, start: Any) -> None:
    """A version with the translation in its prompt gets it from its memory and else from its translator; nothing is written."""
    glossary = GlossaryTranslator(
        (Term("1", "en", "shoes"), Term("1", "de", "schuhe"), Term("2", "en", "coat"), Term("2", "de", "mantel"))
    )
    save(glossary, shop.store)
    translate_and_remember(glossary, shop.store, pl.Series(["schuhe"]), "de", "en")
    info = PromptInfo(name="compact", version="1", max_tokens=64, translation=True, translator=f"glossary-{glossary.version}")
    version = shop.publish(prompt=info)
    before = shop.store.list()
    queries = [("de", "schuhe"), ("de", "mantel"), ("en", "mantel"), ("xx", "mantel"), ("de", "")]
    texts = Memoryless(glossary)
    english = English(texts, shop.store)
    found = [english.of(*query) for query in queries] + [english.of("de", "mantel")]
    assert texts.asked == ["mantel", ""]
    frame = add_english(pl.DataFrame(queries, schema=["language", "query"], orient="row"), glossary, shop.store)
    assert found == [*frame["english"].to_list(), "coat"]
    assert found[:4] == ["shoes", "coat", None, None]
    shop.store.delete(next(entry.key for entry in shop.store.list("memory/") if entry not in before))
    opened = open_prompts(shop.store, "QC", version.version, None)
    decoded = [opened.tokenizer.decode(ids) for ids in opened.encode([Pair("de", "mantel", "Coats"), Pair("en", "coat", "Coats")])]
    assert decoded == ["query: mantel = coat category: Coats ?", "query: coat category: Coats ?"]
    assert shop.store.list() == before


class Memoryless(GlossaryTranslator):
    """The glossary, which writes down what it is asked."""

    def __init__(self, glossary: GlossaryTranslator) -> None:
        super().__init__(glossary.terms, glossary.brands)
        object.__setattr__(self, "asked", [])

    asked: list[str]

    def translate(self, texts: Any, source: str, target: str) -> Any:
        self.asked.extend(texts)
        return super().translate(texts, source, target)


@pytest.mark.parametrize("fault", [429, 500, 503, "short", "no token", "nan", "other version", "page", "cut"])
def test_what_may_be_better_elsewhere_is_asked_elsewhere(shop: Shop, champion: Manifest, start: Any, fault: int | str) -> None:
    """One server is busy, fails or answers nonsense, the other does not: the caller sees right scores and no error."""
    bad, good = start(), start()
    bad.always = fault
    with ScoringClient(shop.store, [bad.url, good.url], FAST, batch=2) as client:
        require(client.score("QC", PAIRS), shop, champion)
    assert bad.requests


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (503, "503: told to"),
        ("short", "1 rows"),
        ("no token", "no log probability"),
        ("page", "no JSON"),
        ("cut", "can't be reached"),
    ],
)
def test_a_fault_that_stays_is_told_with_the_server(
    shop: Shop, champion: Manifest, start: Any, fault: int | str, told: str
) -> None:
    """After the last try the error says what the server did and which it was."""
    server = start()
    server.always = fault
    with ScoringClient(shop.store, [server.url], FAST, attempts=3) as client, pytest.raises(Unavailable, match=told) as caught:
        client.score("QC", PAIRS[:2])
    assert caught.value.where == server.url
    assert len(server.requests) == 3


def test_a_refusal_is_not_repeated(shop: Shop, champion: Manifest, start: Any) -> None:
    """A 400 is asked once of every server and then told; it costs no waiting."""
    servers = [start(), start()]
    for server in servers:
        server.always = 400
    with (
        ScoringClient(shop.store, [server.url for server in servers], FAST) as client,
        pytest.raises(Refused, match="400: told to"),
    ):
        client.score("QC", PAIRS[:1])
    assert [len(server.requests) for server in servers] == [1, 1]


def test_a_hung_server_costs_its_timeout_once(shop: Shop, champion: Manifest, start: Any) -> None:
    """The hung server's batches go to the other one after the timeout, and nothing more is sent to it while it rests."""
    hung, good = start(), start()
    hung.always = "hang"
    settings = ServingSettings(timeout_seconds=1.5, staleness_seconds=60)
    with ScoringClient(shop.store, [hung.url, good.url], settings, batch=2, concurrency=4) as client:
        begun = time.monotonic()
        require(client.score("QC", PAIRS), shop, champion)
        assert 1.5 <= time.monotonic() - begun < 3
    assert len(hung.requests) <= 4


def test_a_server_killed_in_the_middle_of_a_request(shop: Shop, champion: Manifest, start: Any) -> None:
    """SIGKILL while it holds half of the batches: they are scored by the other one, and the call knows nothing of it."""
    good, port = start(), free_port()
    doomed = subprocess.Popen([sys.executable, "-m", "tests.support.stand_in", str(port), BASE])
    try:
        wait_for_port(port)
        settings = ServingSettings(timeout_seconds=30)
        with (
            ScoringClient(shop.store, [f"http://127.0.0.1:{port}", good.url], settings, batch=2, concurrency=4) as client,
            ThreadPoolExecutor(1) as caller,
        ):
            call = caller.submit(client.score, "QC", PAIRS)
            time.sleep(0.5)
            assert not call.done()
            doomed.kill()
            require(call.result(timeout=10), shop, champion)
    finally:
        doomed.kill()
        doomed.wait()


def test_a_server_that_comes_back_is_used_again(shop: Shop, champion: Manifest, start: Any) -> None:
    """It is gone and its calls fail with its address; after its return on the same port calls succeed."""
    port = free_port()
    with ScoringClient(shop.store, [f"http://127.0.0.1:{port}"], FAST, attempts=2) as client:
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}: the server can't be reached"):
            client.score("QC", PAIRS[:1])
        start(port=port)
        time.sleep(0.3)
        require(client.score("QC", PAIRS), shop, champion)


def test_a_storm_of_503_is_met_with_pauses(shop: Shop, champion: Manifest, start: Any) -> None:
    """Sixteen batches meet a server that is busy for a while: few requests are spent on it, and all are scored in the end."""
    server = start()
    server.always = 503
    with ScoringClient(shop.store, [server.url], FAST, batch=1, concurrency=16) as client, ThreadPoolExecutor(1) as caller:
        call = caller.submit(client.score, "QC", PAIRS[:16])
        time.sleep(0.7)
        server.always = None
        require(call.result(timeout=20), shop, champion, PAIRS[:16])
    assert len(server.requests) < 16 * 6


def test_one_version_for_a_whole_call(shop: Shop, champion: Manifest, start: Any) -> None:
    """The alias moves between the batches of a call: the call stays with its version, the next one has the new one."""
    server, later = start(), shop.publish(threshold=0.9)
    server.seconds = 0.1
    with ScoringClient(shop.store, [server.url], FAST, batch=1, concurrency=2) as client, ThreadPoolExecutor(1) as caller:
        call = caller.submit(client.score, "QC", PAIRS)
        time.sleep(0.3)
        shop.promote(later)
        require(call.result(timeout=20), shop, champion)
        require(client.score("QC", PAIRS[:4]), shop, later, PAIRS[:4])


def test_a_moved_alias_is_followed_within_the_staleness(shop: Shop, champion: Manifest, start: Any) -> None:
    """A call that begins later than `staleness_seconds` after the move has the new version; before, either."""
    server, later = start(), shop.publish(threshold=0.9)
    with ScoringClient(shop.store, [server.url], FAST) as client:
        assert client.score("QC", PAIRS).version == champion.version
        shop.promote(later)
        assert client.score("QC", PAIRS).version in (champion.version, later.version)
        time.sleep(FAST.staleness_seconds)
        assert client.score("QC", PAIRS).version == later.version


def test_a_version_that_went_away_during_a_call(shop: Shop, champion: Manifest, start: Any) -> None:
    """The alias moved and the old version is unloaded half-way: the whole call is scored anew by the one that serves."""
    later = shop.publish(threshold=0.9)
    server = start(known={champion.name, later.name})
    server.seconds = 0.05
    seen: list[int] = []
    with ScoringClient(shop.store, [server.url], PATIENT, batch=1, concurrency=2) as client, ThreadPoolExecutor(1) as caller:
        call = caller.submit(client.score, "QC", PAIRS, done=seen.append)
        while len(server.requests) < 6:
            time.sleep(0.01)
        shop.promote(later)
        server.known = {later.name}
        require(call.result(timeout=20), shop, later)
    assert seen != sorted(seen)
    assert seen[-1] == 20


def test_a_version_that_no_server_can_get(shop: Shop, champion: Manifest, start: Any) -> None:
    """The alias has not moved: the refusal is told; one of two servers that has the version is enough."""
    lacking, having = start(known=set()), start()
    with ScoringClient(shop.store, [lacking.url], FAST) as client, pytest.raises(UnknownVersion, match="does not exist"):
        client.score("QC", PAIRS)
    with ScoringClient(shop.store, [lacking.url, having.url], FAST, batch=2) as client:
        require(client.score("QC", PAIRS), shop, champion)


def test_only_servers_of_the_versions_base_are_asked(shop: Shop, champion: Manifest, start: Any) -> None:
    """Of two servers the one with the other base gets no pair, and each is asked for its base once."""
    right, wrong = start(), start(base=OTHER)
    with ScoringClient(shop.store, [right.url, wrong.url], FAST, batch=2) as client:
        for _ in range(3):
            require(client.score("QC", PAIRS), shop, champion)
    assert not wrong.requests
    assert (right.asked_base, wrong.asked_base) == (1, 1)
    with (
        ScoringClient(shop.store, [wrong.url], FAST) as client,
        pytest.raises(ServingError, match=f"no server has the base {BASE}.*{OTHER}"),
    ):
        client.score("QC", PAIRS)


def test_a_new_base_takes_over(shop: Shop, champion: Manifest, start: Any) -> None:
    """Servers register themselves; the alias moves to a version of another base and the old server leaves: calls go on."""
    old, new = start(), start(base=OTHER)
    for server, base in ((old, BASE), (new, OTHER)):
        fleet.register(shop.store, fleet.Entry(server.url, base, "here", 1))
    later = shop.publish(label="b2")
    with ScoringClient(shop.store, settings=PATIENT) as client:
        require(client.score("QC", PAIRS), shop, champion)
        shop.promote(later)
        fleet.leave(shop.store, fleet.registered(shop.store)[0 if old.url < new.url else 1])
        old.stop()
        old.stop = lambda: None  # type: ignore[method-assign]
        require(client.score("QC", PAIRS), shop, later)


def test_without_a_server_the_error_says_how_to_start_one(shop: Shop, champion: Manifest) -> None:
    """No address is given and none registered."""
    with (
        ScoringClient(shop.store, settings=FAST) as client,
        pytest.raises(ServingError, match=r"no server is known.*relevance serve"),
    ):
        client.score("QC", PAIRS)


def test_both_tasks_are_served(shop: Shop, champion: Manifest, start: Any) -> None:
    """Each task has its own version, on the same server; a task without one is an error that names it."""
    server = start()
    with ScoringClient(shop.store, [server.url], FAST) as client:
        with pytest.raises(NotFound, match="no version of QI serves"):
            client.score("QI", PAIRS)
        item = shop.publish("QI")
        shop.promote(item)
        time.sleep(FAST.staleness_seconds)
        require(client.score("QI", PAIRS), shop, item)
        require(client.score("QC", PAIRS), shop, champion)


def test_a_version_may_be_named(shop: Shop, champion: Manifest, start: Any) -> None:
    """A version that does not serve is scored by its id, whatever the alias says."""
    other = shop.publish(threshold=0.9)
    with ScoringClient(shop.store, [start().url], FAST) as client:
        require(client.score("QC", PAIRS, version=other.version), shop, other)


class Flaky(FileStore):
    """A store that can be made to fail, or to take its time, in every look at the alias: when asked for the next release."""

    fails = False
    seconds = 0.0
    looks = 0

    def read(self, key: str) -> bytes:
        if self.fails and key.startswith("aliases/"):
            raise StoreError("the store is down", where=self.uri)
        try:
            return super().read(key)
        except NotFound:  # the next release, which every look asks for once
            self.looks += key.startswith("aliases/")
            time.sleep(self.seconds)
            raise


def flaky(shop: Shop) -> Flaky:
    return Flaky(shop.folder / "store")


def test_a_store_that_is_away_for_a_while_stops_nobody(shop: Shop, champion: Manifest, start: Any) -> None:
    """Calls go on with the known alias until the bound, then say since when it can't be read; a store that is back heals it."""
    store = flaky(shop)
    with ScoringClient(store, [start().url], FAST, outage=1.0) as client:
        require(client.score("QC", PAIRS), shop, champion)
        store.fails = True
        time.sleep(FAST.staleness_seconds)
        require(client.score("QC", PAIRS), shop, champion)
        time.sleep(1.1)
        with pytest.raises(StoreError, match=r"can't be read for [1-9]\d* s.*the store is down"):
            client.score("QC", PAIRS)
        store.fails = False
        time.sleep(1.0)
        require(client.score("QC", PAIRS), shop, champion)


def test_a_store_that_hangs_holds_nobody_up(shop: Shop, champion: Manifest, start: Any) -> None:
    """One call waits for the alias as long as an answer may take; those after it go on with what is known."""
    store = flaky(shop)
    settings = ServingSettings(staleness_seconds=0.1, timeout_seconds=1.5)
    with ScoringClient(store, [start().url], settings) as client:
        client.score("QC", PAIRS)
        store.seconds = 4
        time.sleep(0.1)
        waited = []
        for _ in range(4):
            begun = time.monotonic()
            require(client.score("QC", PAIRS), shop, champion)
            waited.append(time.monotonic() - begun)
        assert 1.5 <= waited[0] < 4
        assert max(waited[1:]) < 1.5


def test_a_store_that_was_never_there_is_an_error_at_once(shop: Shop, champion: Manifest, start: Any) -> None:
    """Nothing is known yet, so there is nothing to go on with."""
    store = flaky(shop)
    store.fails = True
    with ScoringClient(store, [start().url], FAST) as client, pytest.raises(StoreError, match="the store is down"):
        client.score("QC", PAIRS)


def test_the_alias_is_read_once_for_all_callers(shop: Shop, champion: Manifest, start: Any) -> None:
    """Sixteen threads that begin together share one read of the alias and one of the version."""
    store = flaky(shop)
    store.seconds = 0.2
    with ScoringClient(store, [start().url], PATIENT) as client, ThreadPoolExecutor(16) as callers:
        for scores in callers.map(lambda n: client.score("QC", PAIRS[n:]), range(16)):
            assert scores.version == champion.version
    assert store.looks == 1


def test_requests_under_way_are_bounded(shop: Shop, champion: Manifest, start: Any) -> None:
    """Eight callers with twenty batches each never have more than `concurrency` requests under way; each gets its own scores."""
    server = start()
    server.seconds = 0.01
    with ScoringClient(shop.store, [server.url], PATIENT, batch=1, concurrency=3) as client, ThreadPoolExecutor(8) as callers:
        parts = [PAIRS[n:] + PAIRS[:n] for n in range(8)]
        for part, scores in zip(parts, callers.map(lambda part: client.score("QC", part), parts), strict=True):
            require(scores, shop, champion, part)
    assert server.most == 3


def test_a_damaged_version_is_refused(shop: Shop, champion: Manifest, start: Any) -> None:
    """A manifest that was changed is not scored with; a repaired one is, without a new client."""
    key = f"adapters/qc/{champion.version}/manifest.json"
    whole = shop.store.read(key)
    shop.store.write(key, whole.replace(b'"threshold": 0.4', b'"threshold": 0.0'))
    with ScoringClient(shop.store, [start().url], FAST) as client:
        with pytest.raises(RegistryError, match="damaged"):
            client.score("QC", PAIRS)
        shop.store.write(key, whole)
        require(client.score("QC", PAIRS), shop, champion)


def test_an_unsigned_version_is_refused_where_a_key_is_set(shop: Shop, champion: Manifest, start: Any, tmp_path: Path) -> None:
    """A client with `verify_key` takes thresholds and prompts from signed manifests only."""
    (tmp_path / "key").write_text("k" * 64)
    settings = ServingSettings(verify_key=str(tmp_path / "key"))
    with ScoringClient(shop.store, [start().url], settings) as client, pytest.raises(RegistryError, match="sign"):
        client.score("QC", PAIRS)


def test_a_wrong_address_is_a_wrong_setting(shop: Shop, champion: Manifest) -> None:
    """An endpoint that can't be an address is refused by name before anything is sent."""
    with ScoringClient(shop.store, ["server:8000/x"], FAST) as client, pytest.raises(SettingsError, match=r"serving\.endpoints"):
        client.score("QC", PAIRS)


def test_a_cancelled_call_takes_its_requests_back(shop: Shop, champion: Manifest, start: Any) -> None:
    """The caller gives up: no further batch is sent, its places are free, and the client goes on."""
    server = start()

    async def scene() -> None:
        async with AsyncScoringClient(shop.store, [server.url], FAST, batch=1, concurrency=2) as client:
            server.always = "hang"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await client.score("QC", PAIRS)
            assert len(server.requests) == 2
            server.always = None
            require(await client.score("QC", PAIRS), shop, champion)

    asyncio.run(scene())


def test_tasks_of_one_loop_share_a_client(shop: Shop, champion: Manifest, start: Any) -> None:
    """Many calls at once, one of them cancelled while the version is opened: the others are answered."""
    server = start()

    async def scene() -> list[Scores]:
        async with AsyncScoringClient(shop.store, [server.url], FAST, batch=2) as client:
            calls = [asyncio.create_task(client.score("QC", PAIRS)) for _ in range(5)]
            await asyncio.sleep(0)
            calls[0].cancel()
            return [await call for call in calls[1:]]

    for scores in asyncio.run(scene()):
        require(scores, shop, champion)


def test_a_closed_client_says_so(shop: Shop, champion: Manifest, start: Any) -> None:
    """close() ends a call in another thread with a ServingError, may be called twice, and later calls say that it is closed."""
    server = start()
    server.always = "hang"
    client = ScoringClient(shop.store, [server.url], PATIENT)
    with ThreadPoolExecutor(1) as caller:
        call = caller.submit(client.score, "QC", PAIRS)
        while not server.now:
            time.sleep(0.01)
        client.close()
        with pytest.raises(ServingError, match="closed during the call"):
            call.result(timeout=60)
    client.close()
    with pytest.raises(ServingError, match="the client is closed"):
        client.score("QC", PAIRS)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("relevance-")]


def test_an_interrupt_takes_the_requests_back(shop: Shop, champion: Manifest, start: Any) -> None:
    """Ctrl-C in the caller's thread ends the call, whose place is free for the next one long before its timeout."""
    server = start()
    server.always = "hang"
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started with it ignored
    with ScoringClient(shop.store, [server.url], ServingSettings(timeout_seconds=60), concurrency=1) as client:
        threading.Timer(0.5, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            client.score("QC", PAIRS)
        signal.signal(signal.SIGINT, handler)
        server.always = None
        begun = time.monotonic()
        require(client.score("QC", PAIRS), shop, champion)
        assert time.monotonic() - begun < 20


def test_a_file_is_scored_on_servers(shop: Shop, champion: Manifest, start: Any, tmp_path: Path) -> None:
    """`relevance score --engine vllm` keeps the order and ids of the file, asks for the version by name, and says which it was."""
    server, data, output = start(), tmp_path / "pairs.csv", tmp_path / "scores.parquet"
    frame = pl.DataFrame(PAIRS, schema=["language", "query", "target"], orient="row").with_columns(
        task=pl.lit("QC"), id=pl.int_range(100, 120).cast(pl.String)
    )
    frame.write_csv(data)
    command = ["score", "--store", shop.store.uri, "--task", "QC", "--input", str(data), "--output", str(output)]
    assert main([*command, "--endpoint", server.url]) == SettingsError.exit_code
    assert main([*command, "--engine", "vllm", "--endpoint", server.url, "--set", "serving.timeout_seconds=5"]) == 0
    scored = pl.read_parquet(output)
    assert scored["id"].to_list() == frame["id"].to_list()
    assert scored["p_yes"].to_list() == pytest.approx(truth(shop, champion, PAIRS))
    assert scored["decision"].to_list() == [int(p >= champion.threshold) for p in scored["p_yes"]]
    assert scored["version"].unique().to_list() == [champion.version]


def test_a_bulk_is_shown_as_every_long_work_is(shop: Shop, champion: Manifest, start: Any) -> None:
    """Scoring 20 rows opens the process's progress with their number, tells it 20 at last, and closes it."""
    told: list[object] = []

    class Told(Progress):
        def at(self, done: int, note: str = "") -> None:
            told.append(done)

        def close(self) -> None:
            told.append("closed")

    set_progress(lambda what, total, done: told.append((what, total, done)) or Told(what, total, done))  # type: ignore[func-returns-value]  # append returns None
    try:
        rows = pl.DataFrame(PAIRS, schema=["language", "query", "target"], orient="row")
        score_rows(shop.store, champion, rows, [start().url], ServingSettings(timeout_seconds=5))
    finally:
        set_progress(Progress)
    assert (told[0], told[-2:]) == (("scored", 20, 0), [20, "closed"])


def test_importing_the_client_loads_no_torch() -> None:
    """A search service that only scores does not need the training libraries."""
    code = "import sys; from relevance_core.serving import ScoringClient; sys.exit('torch' in sys.modules or 'peft' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def wait_for_port(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


def test_a_client_normalises_by_the_rule_of_the_version(shop: Shop) -> None:
    """A version of rule 1 was trained on 102 where the shopper types 10²; one of rule 2 sees what was typed."""
    shown = {}
    for rule in (1, 2):
        version = shop.publish(prompt=PromptInfo(name="compact", version="1", max_tokens=64, text_rule=rule)).version
        prompts = open_prompts(shop.store, "QC", version, None)
        shown[rule] = prompts.encode([Pair("en", "10² m", "½ l"), Pair("en", "102 m", "1⁄2 l")])
    assert shown[1][0] == shown[1][1] == shown[2][1] != shown[2][0]
