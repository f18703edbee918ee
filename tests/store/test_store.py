"""The object store: keys, atomic writes, one winner a create, and errors that say what to do."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from relevance_core.errors import NotFound, SettingsError, StoreError
from relevance_core.store import Entry, FileStore, Store, open_store
from relevance_core.store.s3 import _time
from tests.support.registry_cases import WRITERS, make_bucket, moto_server, put_objects, race_creates, together, use_server

BUCKETS = (f"bucket-{number}" for number in range(1000))


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server(page=7) as endpoint:
        yield endpoint


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    use_server(monkeypatch, moto)
    bucket = next(BUCKETS)
    make_bucket(moto, bucket)
    return open_store(f"s3://{bucket}/some/prefix")


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return FileStore(tmp_path / "store") if request.param == "file" else request.getfixturevalue("s3")


NO_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    "..",
    "../a",
    "a/../b",
    "./a",
    "a/.",
    "a\x00",
    ".tmp/a",
    ".probe/a",
    "a" * 256,
    "é" * 128,
    "\ud800",
]
"""Keys that lead out of the folder, to another file, to the store's own, or to no file at all."""

ODD_KEYS = ["a\\b", "a\nb", "a\u202eb", "part[1]?*.jsonl", "50% #1 + ü", "a/" * 512 + "a"]
"""Names that other programs write and this store does not, or that look like patterns."""


@pytest.mark.parametrize("key", [*NO_KEYS, *ODD_KEYS[:3], ODD_KEYS[-1]])
def test_unsafe_keys_are_never_written(tmp_path: Path, key: str) -> None:
    """A key that leaves the store, hides in a log or fits no file system is refused before anything is touched."""
    store = FileStore(tmp_path / "store")
    for operation in (store.delete, lambda key: store.write(key, b""), lambda key: store.create(key, b"")):
        with pytest.raises(SettingsError, match="refused"):
            operation(key)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("key", NO_KEYS)
def test_keys_that_lead_elsewhere_are_never_read(tmp_path: Path, key: str) -> None:
    """No reader of a folder leaves it, takes a second name for a file, or looks at unfinished files."""
    (tmp_path / "a").write_bytes(b"outside")
    store = FileStore(tmp_path / "store")
    store.write("a", b"inside")
    store.write("b", b"inside")
    for operation in (store.read, store.exists, store.uri_of, store.local_path, store.digest):
        with pytest.raises(SettingsError, match="refused"):
            operation(key)
    for prefix in ("..", "../", "a/../", "/"):
        with pytest.raises(SettingsError, match="refused"):
            store.list(prefix)


@pytest.mark.parametrize("key", ODD_KEYS[:-1])
def test_names_of_other_programs_are_read(tmp_path: Path, key: str) -> None:
    """A name that would not be written is listed and read all the same, as itself and not as a pattern."""
    store = FileStore(tmp_path / "store")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / key).write_bytes(b"odd")
    assert store.list() == store.list(key[:2]) == [Entry(key, 3)]
    assert (store.exists(key), store.read(key), store.digest(key).size) == (True, b"odd", 3)
    assert store.local_path(key) == tmp_path / "store" / key
    store.download(key, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"odd"
    assert open_store(store.uri_of(key)).uri == store.uri_of(key)


def test_a_name_that_is_no_utf8_is_read(tmp_path: Path) -> None:
    """A name in Latin-1 on disk leads to its file, by key and by the store's own address."""
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    Path(folder).mkdir()
    Path(folder, "a").write_bytes(b"1")
    assert FileStore(tmp_path).read("caf\udce9/a") == b"1"
    assert open_store(Path(folder).as_uri()).read("a") == b"1"


ODD_OBJECTS = [
    "dt=2020-01-01//old.jsonl",
    "/a.jsonl",
    "//b.jsonl",
    "marker/",
    "back\\slash",
    "left\u200eto right",
    "tab\t",
    "part[1]?*.jsonl",
    "50% #1 + ü",
    "%41",
    "é" * 128,
    "~",
]


def test_keys_in_s3_are_what_they_are(moto: str, s3: Store) -> None:
    """Every key that S3 takes is listed and read under that very name: empty parts, leading slashes and a tab included."""
    keys, bucket, prefix = sorted(ODD_OBJECTS), s3.uri.split("/")[2], "some/prefix/"
    put_objects(moto, bucket, {prefix + key: key.encode() for key in keys})
    entries = s3.everything()
    assert [entry.key for entry in entries] == keys
    assert [entry.size for entry in entries] == [len(key.encode()) for key in keys]
    assert [entry.key for entry in s3.list()] == [key for key in keys if key != "marker/"]
    for key in keys:
        assert (s3.exists(key), s3.read(key).decode(), s3.digest(key).size, s3.local_path(key)) == (
            True,
            key,
            len(key.encode()),
            None,
        )
        assert s3.uri_of(key) == f"{s3.uri}/{key}"
    assert not s3.exists("dt=2020-01-01/old.jsonl")
    assert [entry.key for entry in s3.list("dt=2020-01-01//")] == ["dt=2020-01-01//old.jsonl"]


@pytest.mark.parametrize("key", ["", "..", "a/../b", "./a", ".tmp/a", "\ud800"])
def test_keys_that_a_client_of_s3_would_change_are_refused(s3: Store, key: str) -> None:
    """A client resolves dots in a path: the key would lead to another object."""
    for operation in (s3.read, s3.exists, s3.uri_of, s3.local_path, s3.delete, lambda key: s3.write(key, b"")):
        with pytest.raises(SettingsError, match="refused"):
            operation(key)


@pytest.mark.parametrize("key", ["/a", "a//b", "a/", "a\\b", "a\nb", "a\u202eb", "é" * 128])
def test_odd_keys_are_never_written_to_s3(s3: Store, key: str) -> None:
    """What is read from other programs' buckets is no model for the store's own names."""
    for operation in (s3.delete, lambda key: s3.write(key, b""), lambda key: s3.create(key, b"")):
        with pytest.raises(SettingsError, match="refused"):
            operation(key)
    assert s3.everything() == []


def test_a_folder_of_another_program_is_read_and_never_written(moto: str, s3: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address with empty parts, `?` and `#` is a prefix as it stands where it is to be read; nothing is written there."""
    bucket = s3.uri.split("/")[2]
    put_objects(moto, bucket, {"/x//y?#z/a": b"1"})
    uri = f"s3://{bucket}//x//y?#z"
    odd = open_store(uri, reading=True)
    assert (odd.uri, [entry.key for entry in odd.list()], odd.read("a")) == (uri, ["a"], b"1")
    assert pickle.loads(pickle.dumps(odd)).read("a") == b"1"  # noqa: S301 - what was pickled in this line
    with pytest.raises(SettingsError, match="no address"):
        open_store(uri)
    for operation in (odd.delete, lambda key: odd.write(key, b""), lambda key: odd.create(key, b"")):
        with pytest.raises(SettingsError, match="refused"):
            operation("b")


def test_keys_of_real_data_are_accepted(store: Store) -> None:
    """Partitions, spaces, accents and 255-byte names are fine."""
    keys = sorted(["logs/dt=2026-01-31/part 1.parquet", "münchen/ü", "a" * 255, "..a/b..", "%41"])
    for key in keys:
        store.write(key, key.encode())
    assert [entry.key for entry in store.list()] == keys
    assert [store.read(key).decode() for key in keys] == keys


def test_objects_come_back_as_written(store: Store, tmp_path: Path) -> None:
    """Write, upload, read, stream, download, replace and delete agree on one content."""
    store.write("a/b", b"one")
    store.write("a/b", b"two")
    (tmp_path / "source").write_bytes(b"x" * 3_000_000)
    store.upload(tmp_path / "source", "a/c")
    store.download("a/c", tmp_path / "new" / "copy")
    assert store.read("a/b") == b"two"
    assert (tmp_path / "new" / "copy").read_bytes() == b"x" * 3_000_000
    assert [len(chunk) for chunk in store.stream("a/c")] == [1 << 20, 1 << 20, 3_000_000 - (2 << 20)]
    assert store.digest("a/b").size == 3
    assert store.list("a/") == [Entry("a/b", 3), Entry("a/c", 3_000_000)]
    store.delete("a/b")
    store.delete("a/b")
    assert not store.exists("a/b")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["copy"]


def test_listing_is_by_text_and_complete(store: Store) -> None:
    """A prefix is the beginning of a key, not a folder, and a listing of several pages is whole and sorted."""
    for number in range(20):
        store.write(f"runs/{number:02d}", b"")
    store.write("running", b"1")
    store.create("other", b"")
    assert [entry.key for entry in store.list("run")] == ["running", *(f"runs/{number:02d}" for number in range(20))]
    assert [entry.key for entry in store.list("runs/1")] == [f"runs/1{number}" for number in range(10)]
    assert store.list("none/") == []
    assert len(store.list()) == 22


def test_what_is_not_there_is_not_found(store: Store, tmp_path: Path) -> None:
    """A missing key is NotFound for every reader, also where it is a folder, and leaves no file behind."""
    store.write("a/b", b"")
    for key in ("nothing", "a"):
        assert not store.exists(key)
        with pytest.raises(NotFound, match=key):
            store.read(key)
        with pytest.raises(NotFound, match=key):
            store.download(key, tmp_path / "out" / "copy")
    assert list((tmp_path / "out").iterdir()) == []


def test_create_keeps_the_first_content(store: Store, tmp_path: Path) -> None:
    """The first create wins, from bytes or from a file; later ones change nothing."""
    (tmp_path / "file").write_bytes(b"first")
    assert store.create("a", tmp_path / "file")
    assert not store.create("a", b"second")
    assert not store.create("a", tmp_path / "file")
    assert store.read("a") == b"first"


def test_one_of_sixteen_writers_creates(store: Store) -> None:
    """16 writers, 100 rounds: each key is created exactly once."""
    assert race_creates(store, 100) == [1] * 100


RACER = """
import sys, time
from relevance_core.store import open_store
store = open_store(sys.argv[1])
while not store.exists("go"):
    time.sleep(0.001)
print(sum(store.create(f"race/{turn}", sys.argv[2].encode()) for turn in range(100)))
"""


def test_one_of_sixteen_processes_creates_a_file(tmp_path: Path) -> None:
    """16 processes that create the same 100 files win 100 times together."""
    store = FileStore(tmp_path)
    with ExitStack() as stack:
        commands = ([sys.executable, "-c", RACER, store.uri, str(number)] for number in range(WRITERS))
        racers = [stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE)) for command in commands]
        store.write("go", b"")
        wins = [int(racer.communicate()[0]) for racer in racers]
    assert sum(wins) == 100
    assert len(store.list("race/")) == 100


def test_writers_that_start_together_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each new store looks for abandoned files while others finish theirs: files that vanish meanwhile are no error."""

    def writer(number: int, wait: Callable[[], object]) -> None:
        wait()
        for turn in range(40):
            FileStore(tmp_path).write(f"{number}/{turn}", b"")

    together(writer)
    assert len(FileStore(tmp_path).list()) == WRITERS * 40


def test_a_store_survives_pickling(store: Store) -> None:
    """A worker in another process gets the same store."""
    store.write("a", b"1")
    again = pickle.loads(pickle.dumps(store))  # noqa: S301 - what was pickled in this line
    assert again.uri == store.uri
    assert again.read("a") == b"1"


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path, a file:// address and an s3:// address open the store that they name, and its own address opens it again."""
    monkeypatch.chdir(tmp_path)
    assert open_store("x y").uri == open_store(f"file://{tmp_path}/x%20y").uri == f"file://{tmp_path}/x%20y"
    assert open_store(open_store("x y").uri).local_path("k") == tmp_path / "x y" / "k"
    assert open_store("s3://bucket/a/b/").uri == "s3://bucket/a/b"
    assert open_store("s3://bucket").uri_of("k") == "s3://bucket/k"
    assert open_store("s3://bucket").local_path("k") is None


@pytest.mark.parametrize("uri", ["", "s3://", "s3://bucket/../x", "gs://bucket", "file://host/x", "file:relative", "s3://b/x?y=1"])
def test_other_addresses_are_refused(uri: str) -> None:
    """An address of another form is an error, never a folder of that name."""
    with pytest.raises(SettingsError):
        open_store(uri)


# The disk


FULL_DISK = """
import sys
from relevance_core.errors import StoreError
from relevance_core.store import open_store
store = open_store(sys.argv[1])
store.write("kept", b"old")
for attempt in (lambda: store.write("kept", b"x" * 300_000), lambda: store.create("new", b"x" * 300_000)):
    try:
        attempt()
    except StoreError as error:
        print(error)
print([entry.key for entry in store.list()], store.read("kept"), store.create("small", b"1"))
"""


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    """On a full disk the old content stays, nothing half-written shows, space is freed, and the error names path and remedy."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small tmpfs in a namespace of its own")
    script = 'mount -t tmpfs -o size=128k none "$1" && exec "$2" -c "$3" "$1"'
    command = [*unshare, "sh", "-c", script, "sh", str(tmp_path), sys.executable, FULL_DISK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, second, last = done.stdout.splitlines()
    assert "No space left on device" in first
    assert f"where: {tmp_path}/kept" in first
    assert "what to do: free space" in first
    assert f"where: {tmp_path}/new" in second
    assert last == "['kept'] b'old' True"


def test_a_killed_writer_leaves_nothing_visible(tmp_path: Path) -> None:
    """SIGKILL in the middle of an upload: no object, no listing entry; what it left is removed a day later."""
    os.mkfifo(tmp_path / "pipe")
    store = FileStore(tmp_path / "store")
    script = "import sys, pathlib, relevance_core.store as s; s.open_store(sys.argv[1]).upload(pathlib.Path(sys.argv[2]), 'big')"
    command = [sys.executable, "-c", script, store.uri, str(tmp_path / "pipe")]
    with subprocess.Popen(command) as writer, (tmp_path / "pipe").open("wb") as pipe:
        pipe.write(b"x" * 3_000_000)
        # The pipe took more than it can hold, so the writer has begun its file.
        parts = [path for path in (tmp_path / "store").rglob("*.part") if path.is_file()]
        assert len(parts) == 1
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert store.list() == []
        assert not store.exists("big")
    store.write("young leftovers stay", b"")
    assert parts[0].exists()
    os.utime(parts[0], (time.time() - 90_000, time.time() - 90_000))
    FileStore(tmp_path / "store").write("old ones go", b"")
    assert not parts[0].exists()


def test_a_file_in_the_way_of_a_folder_is_one_clear_error(tmp_path: Path) -> None:
    """On disk a name is a file or a folder; the clash names the path."""
    store = FileStore(tmp_path)
    store.write("a", b"")
    with pytest.raises(StoreError, match=r"where: .*/a/b"):
        store.write("a/b", b"")
    store.write("c/d", b"")
    with pytest.raises(StoreError, match=r"where: .*/c"):
        store.write("c", b"")


def test_links_out_of_the_store_are_not_listed(tmp_path: Path) -> None:
    """A symbolic link in the store's folder shows nothing of what lies outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("")
    store = FileStore(tmp_path / "store")
    store.write("a", b"")
    (tmp_path / "store" / "link").symlink_to(tmp_path / "outside")
    assert store.list() == [Entry("a", 0)]


# S3: what goes wrong


def test_a_missing_bucket_is_one_clear_error(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading, looking up or creating in a bucket that does not exist names the bucket, never "no such object"."""
    use_server(monkeypatch, moto)
    store = open_store("s3://not-there/x")
    for operation in (lambda: store.read("a"), lambda: store.exists("a"), lambda: store.list(), lambda: store.create("a", b"")):
        with pytest.raises(StoreError, match=r"the bucket 'not-there' does not exist.*what to do: create the bucket"):
            operation()


def test_missing_credentials_are_one_clear_error(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys the error says which variables to set."""
    use_server(monkeypatch, moto)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match=r"credentials.*what to do: set AWS_ACCESS_KEY_ID"):
        open_store("s3://bucket/x").list()


@pytest.mark.parametrize(
    "text", ["2026-11-27T06:00:00.250Z", "Fri, 27 Nov 2026 06:00:00 GMT", "Fri Nov 27 06:00:00 2026", "1796018400"]
)
def test_a_time_is_what_botocore_takes_it_for(text: str) -> None:
    """Of a listing, of a header, and of forms that only botocore's own parser knows."""
    from botocore.utils import parse_timestamp

    assert _time(text).timestamp() == parse_timestamp(text).timestamp()


def test_an_unreachable_server_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens on port 9: the error names the endpoint and the variable that sets it."""
    use_server(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(StoreError, match=r"connect.*127\.0\.0\.1:9.*what to do: .*AWS_ENDPOINT_URL_S3"):
        open_store("s3://bucket/x").list()


def test_a_create_that_s3_could_not_do_at_once_is_refused(s3: Store, tmp_path: Path) -> None:
    """A file over 5 GiB (sparse here) is refused before a byte is sent."""
    with (tmp_path / "big").open("wb") as file:
        file.truncate(5 * 1024**3 + 1)
    with pytest.raises(StoreError, match="5368709121 bytes"):
        s3.create("big", tmp_path / "big")


class StandIn(BaseHTTPRequestHandler):
    """A stand-in for an S3 server that misbehaves in one way, because no real one does so on demand.

    `mode`: lax (ignores If-None-Match, as `rclone serve s3` does), refuses (501), busy (409 on every second create), jammed
    (409 on every create), half (breaks off the first answer to every GET).
    """

    protocol_version = "HTTP/1.1"
    mode = ""
    objects: dict[str, bytes]
    answered: set[str]

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def answer(self, status: int, body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        first = self.path not in self.answered
        self.answered.add(self.path)
        if self.mode == "refuses":
            self.answer(501, b"<Error><Code>NotImplemented</Code></Error>")
        elif self.mode == "jammed" or (self.mode == "busy" and first):
            self.answer(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>")
        elif self.mode != "lax" and self.path in self.objects:
            self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        else:
            self.objects[self.path] = body
            self.answer(200)

    def do_GET(self) -> None:
        if "?list-type=2" in self.path:
            return self.answer(200, b"<ListBucketResult/>")
        body = self.objects[self.path]
        if self.mode == "half" and self.path not in self.answered:
            self.answered.add(self.path)
            self.answer(200, body[: len(body) // 2], len(body))
            self.close_connection = True
        else:
            self.answer(200, body)


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


@contextmanager
def stand_in(monkeypatch: pytest.MonkeyPatch, mode: str) -> Iterator[tuple[Store, dict[str, bytes]]]:
    objects: dict[str, bytes] = {}
    handler = type("Handler", (StandIn,), {"mode": mode, "objects": objects, "answered": set()})
    with serving(handler) as endpoint:
        use_server(monkeypatch, endpoint)
        yield open_store("s3://bucket"), objects


def test_a_store_that_ignores_conditional_writes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lets two creates of one object through is refused before anything of ours is created there."""
    with stand_in(monkeypatch, "lax") as (store, objects):
        for _ in range(2):
            with pytest.raises(
                StoreError, match=r"ignores conditional writes.*expected: .*412.*what to do: use a store that honours it"
            ):
                store.create("a", b"")
        assert list(objects) == ["/bucket/.probe/if-none-match"]


def test_a_store_without_conditional_writes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers 501 to the condition is refused with what to use instead."""
    with stand_in(monkeypatch, "refuses") as (store, _), pytest.raises(StoreError, match=r"what to do: use a store that honours"):
        store.create("a", b"")


def test_a_conflict_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """409 means "undecided, try again": a server that says so at first still has one winner."""
    with stand_in(monkeypatch, "busy") as (store, objects):
        assert store.create("a", b"1")
        assert not store.create("a", b"2")
        assert objects["/bucket/a"] == b"1"


def test_a_lasting_conflict_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that never decides is a StoreError, not a lost race."""
    with stand_in(monkeypatch, "jammed") as (store, _), pytest.raises(StoreError, match="ConditionalRequestConflict"):
        store.create("a", b"1")


def test_an_answer_that_breaks_off_is_never_taken_for_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an answer: read asks again and returns the whole; a stream, which can't, raises."""
    with stand_in(monkeypatch, "half") as (store, objects):
        objects["/bucket/a"] = objects["/bucket/b"] = b"x" * 10_000
        assert store.read("a") == b"x" * 10_000
        with pytest.raises(StoreError, match="reading an object failed"):
            store.digest("b")


def test_a_create_whose_answer_was_lost_still_won(moto: str, s3: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks after the server created the object: the repeated request meets our own object and says so."""
    lost: list[str] = []

    class Lossy(BaseHTTPRequestHandler):
        """Forwards to moto and throws away the first answer to each create."""

        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Stay silent."""

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            upstream = HTTPConnection(moto.removeprefix("http://"))
            upstream.request(self.command, self.path, body, dict(self.headers))
            answer = upstream.getresponse()
            content = answer.read()
            upstream.close()
            if self.headers.get("If-None-Match") and self.path not in lost:
                lost.append(self.path)
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"content-length", "connection", "transfer-encoding"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_HEAD = forward  # noqa: N815 - the names that http.server calls

    with serving(Lossy) as endpoint:
        use_server(monkeypatch, endpoint)
        lossy = open_store(s3.uri)
        assert lossy.create("a", b"ours")
        assert s3.create("b", b"theirs")
        assert not lossy.create("b", b"ours")
        assert [path.rpartition("/")[2] for path in lost] == ["if-none-match", "a", "b"]
        assert (s3.read("a"), s3.read("b")) == (b"ours", b"theirs")


def test_a_listing_can_begin_behind_a_key_and_folders_have_names(store: Store) -> None:
    """What sorts behind a key, inside its folder and in later ones, and the names of the folders, of which links are none."""
    for key in ("runs/a/1", "runs/a/2", "runs/b/1", "runs/c/x/1", "runs/plain", "other/d/1"):
        store.write(key, b"")
    assert [entry.key for entry in store.list("runs/", after="runs/a/1")] == ["runs/a/2", "runs/b/1", "runs/c/x/1", "runs/plain"]
    assert [entry.key for entry in store.list("runs/", after="runs/b")] == ["runs/b/1", "runs/c/x/1", "runs/plain"]
    assert [entry.key for entry in store.list("runs/", after="runs/c/x")] == ["runs/c/x/1", "runs/plain"]
    assert store.folders("runs/") == ["a", "b", "c"]
    assert store.folders("none/") == []


def test_an_entry_tells_that_an_object_was_written_again(store: Store) -> None:
    """The same object keeps its tag; other content of the same size gets another one, and a time that is not earlier."""
    store.write("a", b"1")
    (first,) = store.list()
    assert store.list()[0].tag == first.tag
    store.write("a", b"2")
    (second,) = store.list()
    assert second == first
    assert second.tag != first.tag
    assert second.modified >= first.modified > time.time() - 600
