"""The listing of a source: every file once, to be read or with the reason why not."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from relevance_core.errors import NotFound, SettingsError, StoreError
from relevance_core.sources.listing import Found, Listing, list_below, list_place
from relevance_core.sources.partitions import partitions
from relevance_core.store import S3Store, open_store
from tests.support.registry_cases import make_bucket, moto_server, put_objects, use_server

BUCKETS = (f"bucket-{number}" for number in range(1000))


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server(page=7) as endpoint:
        yield endpoint


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    use_server(monkeypatch, moto)
    name = next(BUCKETS)
    make_bucket(moto, name)
    return name


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    return root


def read(listing: Listing) -> list[str]:
    return [file.key for file in listing.read]


def reasons(listing: Listing) -> dict[str, str]:
    return {file.key: file.skipped for file in listing.skipped}


def test_names_are_no_patterns(tmp_path: Path) -> None:
    """Brackets, stars, question marks, per cent, backslash, bidi marks and new lines are characters of names, in any part."""
    names = [
        "part[1].jsonl",
        "part2.jsonl",
        "part-?.jsonl",
        "*.csv",
        "a b#+%41.tsv",
        "ü\\.json",
        "\u200ex.jsonl",
        "new\nline.jsonl",
    ]
    shop = tree(tmp_path / "shop [prod]#1", *(f"logs/dt=2026-10-14/{name}" for name in names))
    for uri in (str(shop), f"{shop}/logs/", shop.as_uri()):
        listing = list_place(uri)
        assert read(listing) == sorted(f"logs/dt=2026-10-14/{name}" for name in names)
        assert all(listing.store.read(file.key) == b"1" for file in listing.read)
        assert {file.day for file in listing.files} == {date(2026, 10, 14)}
    for name in names:
        one = list_place(f"{shop}/logs/dt=2026-10-14/{name}")
        assert (read(one), one.store.read(name), one.read[0].day) == ([name], b"1", date(2026, 10, 14))


def test_what_is_hidden_hides_all_below(tmp_path: Path) -> None:
    """Unfinished, deleted and staged files of any writer are skipped, also inside a partition, and so is what they link to."""
    shop = tree(
        tmp_path,
        "logs/.Trash/dt=2026-10-14/part-3.jsonl",
        "logs/.spark-staging-6f1c/dt=2026-10-14/part-2.jsonl",
        "logs/dt=2026-10-14/.ipynb_checkpoints/part-0-checkpoint.jsonl",
        "logs/dt=2026-10-14/_temporary/0/task_1/part-1.jsonl",
        "logs/dt=2026-10-14/_SUCCESS",
        "logs/dt=2026-10-14/.part-0.jsonl.crc",
        "logs/dt=2026-10-14/part-0.jsonl",
        "logs/lost+found/dt=2026-10-14/a.jsonl",
    )
    (shop / "logs/_links").mkdir()
    (shop / "logs/_links/up").symlink_to(shop)
    listing = list_place(str(shop))
    assert read(listing) == ["logs/dt=2026-10-14/part-0.jsonl"]
    assert reasons(listing) == {
        "logs/.Trash/dt=2026-10-14/part-3.jsonl": "the folder .Trash begins with .",
        "logs/.spark-staging-6f1c/dt=2026-10-14/part-2.jsonl": "the folder .spark-staging-6f1c begins with .",
        "logs/_links/up": "the folder _links begins with _",
        "logs/dt=2026-10-14/.ipynb_checkpoints/part-0-checkpoint.jsonl": "the folder .ipynb_checkpoints begins with .",
        "logs/dt=2026-10-14/.part-0.jsonl.crc": "the name .part-0.jsonl.crc begins with .",
        "logs/dt=2026-10-14/_SUCCESS": "the name _SUCCESS begins with _",
        "logs/dt=2026-10-14/_temporary/0/task_1/part-1.jsonl": "the folder _temporary begins with _",
        "logs/lost+found/dt=2026-10-14/a.jsonl": "the folder lost+found is the file system's",
    }


def test_an_address_may_be_hidden(tmp_path: Path) -> None:
    """Only parts below the address hide: an address that was given is meant."""
    tree(tmp_path, "_staging/a.jsonl", "_staging/_b.jsonl")
    assert read(list_place(f"{tmp_path}/_staging")) == ["a.jsonl"]
    assert read(list_place(f"{tmp_path}/_staging/_b.jsonl")) == ["_b.jsonl"]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.parquet", "parquet"),
        ("part-0.c000.snappy.PARQUET", "parquet"),
        ("a.pq", "parquet"),
        ("part-0.c000.csv", "csv"),
        ("a.CSV.GZ", "csv"),
        ("a.tsv.zst", "tsv"),
        ("a.jsonl", "jsonl"),
        ("it.JSONL", "jsonl"),
        ("es.ndjson.gz", "jsonl"),
        ("fr.json", "json"),
        ("fr.Json.Zst", "json"),
    ],
)
def test_endings_say_the_format(tmp_path: Path, name: str, form: str) -> None:
    """In any case of letters, and compressed by gzip or zstd."""
    (found,) = list_place(str(tree(tmp_path, name))).files
    assert found == Found(name, 1, format=form)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.xlsx", "its ending .xlsx is not read"),
        ("a.parquet.gz", "its ending .parquet.gz is not read"),
        ("a.jsonl.bz2", "its ending .jsonl.bz2 is not read"),
        ("a.jsonl.tmp", "its ending .tmp is not read"),
        ("a.gz", "its ending .gz is not read"),
        ("a.csv ", "no ending says its format"),
        ("a.csv\n", "no ending says its format"),
        ("000000_0", "no ending says its format"),
        ("jsonl", "no ending says its format"),
        ("dt=2026-10-14", "unplaced: a file named as a partition"),
        ("a.csv.md5", "a checksum or marker file"),
        ("MANIFEST", "a checksum or marker file"),
        ("dt=2026-10-14_$folder$", "a marker of a folder"),
        ("brands.txt", "a companion file: brands.txt"),
        ("terms.tsv.gz", "a companion file: terms.tsv.gz"),
    ],
)
def test_other_files_are_named(tmp_path: Path, name: str, reason: str) -> None:
    """A file of no known ending, a marker and a companion are skipped with their reason."""
    (found,) = list_place(str(tree(tmp_path, name))).files
    assert (found.skipped, found.format in {"", "tsv"}) == (reason, True)


@pytest.mark.parametrize(
    ("path", "day", "columns", "problem"),
    [
        ("dt=2026-10-14", "2026-10-14", {}, ""),
        ("DT=20261014", "2026-10-14", {}, ""),
        ("date=2026-10-14/hour=09", "2026-10-14", {"hour": "09"}, ""),
        ("ds=2026-10-14/language=de/Task=QC", "2026-10-14", {"language": "de", "Task": "QC"}, ""),
        ("day=2026-10-14", "2026-10-14", {}, ""),
        ("dt=2026-10-14 00%3A00%3A00", "2026-10-14", {}, ""),
        ("year=2026/month=10/day=14", "2026-10-14", {}, ""),
        ("year=2026/month=1/day=05/language=fr", "2026-01-05", {"language": "fr"}, ""),
        ("year=2026/month=10/dt=2026-10-14", "2026-10-14", {"year": "2026", "month": "10"}, ""),
        ("dt=2026-10-14/date=2026-10-14", "2026-10-14", {}, ""),
        ("web/dt=2026-10-14/day=wednesday", "2026-10-14", {"day": "wednesday"}, ""),
        ("language=pt%2DBR/category=a%2Fb %25+c", None, {"language": "pt-BR", "category": "a/b %+c"}, ""),
        ("language=%E4/x=100%", None, {"language": "%E4", "x": "100%"}, ""),
        ("language=__HIVE_DEFAULT_PARTITION__", None, {"language": None}, ""),
        ("language=de/language=de", None, {"language": "de"}, ""),
        ("=x", None, {}, ""),
        ("a=b=c", None, {"a": "b=c"}, ""),
        ("dt=2026-13-40", None, None, "dt=2026-13-40 is no day"),
        ("dt=2026-10-14-09", None, None, "dt=2026-10-14-09 is no day"),
        ("dt=٢٠٢٦-10-14", None, None, "dt=٢٠٢٦-10-14 is no day"),
        ("dt=__HIVE_DEFAULT_PARTITION__", None, None, "dt=__HIVE_DEFAULT_PARTITION__ is no day"),
        ("year=2026/month=10", None, None, "year=2026/month=10 is no day"),
        ("year=2026/month=2/day=30", None, None, "year=2026/month=2/day=30 is no day"),
        ("day=14", None, None, "day=14 is no day"),
        ("dt=2026-10-14/date=2026-10-15", None, None, "it names two days: dt=2026-10-14, date=2026-10-15"),
        ("language=de/Language=fr", None, None, "Language is de and fr"),
    ],
)
def test_partitions_of_a_path(path: str, day: str | None, columns: dict[str, str | None] | None, problem: str) -> None:
    """One of the partitions may be the day, the others are columns; what can't be placed in time says so."""
    found = partitions(path.split("/"))
    assert (found.problem, found.day) == (problem, date.fromisoformat(day) if day else None)
    if columns is not None:
        assert found.columns == columns


def test_what_cannot_be_placed_is_told_apart(tmp_path: Path) -> None:
    """A partition of no readable day might be in the window: a run can stop at `unplaced`; a plain folder is skipped by name."""
    shop = tree(
        tmp_path,
        "logs/dt=2026-10-14/en.jsonl",
        "logs/dt=20261014/a.jsonl",
        "logs/dt=2026-10-14-09/a.jsonl",
        "logs/web/dt=2026-10-14/a.jsonl",
        "logs/dt=2026-10-14/sub/a.jsonl",
        "logs/language=de/a.jsonl",
        "logs/direct.jsonl",
        "logs/old/a.jsonl",
        "logs/old/language=de/a.jsonl",
    )
    listing = list_place(str(shop))
    assert read(listing) == [
        "logs/direct.jsonl",
        "logs/dt=2026-10-14/en.jsonl",
        "logs/dt=2026-10-14/sub/a.jsonl",
        "logs/dt=20261014/a.jsonl",
        "logs/language=de/a.jsonl",
        "logs/web/dt=2026-10-14/a.jsonl",
    ]
    assert reasons(listing) == {
        "logs/dt=2026-10-14-09/a.jsonl": "unplaced: dt=2026-10-14-09 is no day",
        "logs/old/a.jsonl": "in a folder that is no partition: old",
        "logs/old/language=de/a.jsonl": "in a folder that is no partition: old",
    }
    assert [file.key for file in listing.unplaced] == ["logs/dt=2026-10-14-09/a.jsonl"]


def test_columns_of_the_path_come_with_the_file(tmp_path: Path) -> None:
    """Partitions below the address, and those in which the address itself ends."""
    key = "dt=2026-10-14/language=de/task=QC/part-0.parquet"
    shop = tree(tmp_path / "shop", f"logs/{key}")
    (whole,) = list_place(str(shop)).files
    assert (whole.key, whole.day, whole.columns) == (f"logs/{key}", date(2026, 10, 14), {"language": "de", "task": "QC"})
    for depth in (1, 2, 3, 4):
        uri = "/".join([str(shop), "logs", *key.split("/")[:depth]])
        (part,) = list_place(uri).files
        assert (part.day, part.columns, part.skipped) == (whole.day, whole.columns, "")


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    """A file of 0 bytes holds no row; where it is the address itself, it is read."""
    (tmp_path / "a.jsonl").touch()
    assert reasons(list_place(str(tmp_path))) == {"a.jsonl": "empty: 0 bytes"}
    assert read(list_place(f"{tmp_path}/a.jsonl")) == ["a.jsonl"]


def test_logs_are_what_a_folder_with_logs_means(tmp_path: Path) -> None:
    """All beside logs/ is named with its use; without logs/ the folder itself is read, but for clicks/ and truth/."""
    beside = (
        "clicks/dt=2026-10-14/a.jsonl",
        "truth/dt=2026-10-14/a.jsonl",
        "catalogue.parquet",
        "more.jsonl",
        "old/dt=2026-10-14/a.jsonl",
    )
    shop = tree(tmp_path / "shop", "logs/dt=2026-10-14/a.jsonl", *beside)
    listing = list_place(str(shop))
    assert (listing.folder, read(listing)) == ("logs/", ["logs/dt=2026-10-14/a.jsonl"])
    assert reasons(listing) == {
        "catalogue.parquet": "a companion file: catalogue.parquet",
        "clicks/dt=2026-10-14/a.jsonl": "clicks of base",
        "more.jsonl": "beside logs/",
        "old/dt=2026-10-14/a.jsonl": "beside logs/",
        "truth/dt=2026-10-14/a.jsonl": "truth beside the logs",
    }
    itself = list_place(f"{shop}/logs")
    assert (itself.store.uri, itself.folder, read(itself), itself.skipped) == (listing.store.uri, "logs/", read(listing), ())
    assert read(list_below(listing.store, "clicks/")) == ["clicks/dt=2026-10-14/a.jsonl"]
    assert list_below(listing.store, "none/").files == ()
    plain = list_place(str(tree(tmp_path / "plain", "logs/job.log", "logs/_x/a.jsonl", *beside)))
    assert (plain.folder, read(plain)) == ("", ["more.jsonl", "old/dt=2026-10-14/a.jsonl"])
    assert reasons(plain)["clicks/dt=2026-10-14/a.jsonl"] == "clicks of base"
    assert read(list_place(str(tmp_path / "plain/clicks"), logs=False)) == ["dt=2026-10-14/a.jsonl"]


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder named like a file is a folder, relative paths count from here, and what is not there is told."""
    monkeypatch.chdir(tree(tmp_path, "out.parquet/part-0.parquet", "x.xlsx", "logs/a.csv"))
    assert read(list_place("out.parquet")) == ["part-0.parquet"]
    assert read(list_place(".")) == read(list_place("logs")) == read(list_place("./logs/")) == ["logs/a.csv"]
    assert read(list_place("logs/a.csv")) == ["a.csv"]
    assert reasons(list_place("x.xlsx")) == {"x.xlsx": "its ending .xlsx is not read"}
    (tmp_path / "empty").mkdir()
    for uri in ("none", "none.csv", "x.xlsx/a.csv", "empty"):
        with pytest.raises(NotFound, match="there is nothing"):
            list_place(uri)
    with pytest.raises(SettingsError, match="no address"):
        list_place("gs://bucket/x")


# Links


def test_links_are_followed(tmp_path: Path) -> None:
    """A linked partition, a linked file and a linked logs/ are read under the names that they have in the source."""
    tree(tmp_path / "elsewhere", "extra.jsonl", "dt=2026-10-14/p.jsonl", "dt=2026-10-14/language=de/q.jsonl")
    shop = tree(tmp_path / "shop", "real/dt=2026-10-13/p.jsonl")
    (shop / "logs").symlink_to("real")
    (shop / "logs/dt=2026-10-13/extra.jsonl").symlink_to("../../../elsewhere/extra.jsonl")
    (shop / "logs/dt=2026-10-14").symlink_to("../../elsewhere/dt=2026-10-14")
    listing = list_place(f"{shop}/logs")
    assert read(listing) == [
        "logs/dt=2026-10-13/extra.jsonl",
        "logs/dt=2026-10-13/p.jsonl",
        "logs/dt=2026-10-14/language=de/q.jsonl",
        "logs/dt=2026-10-14/p.jsonl",
    ]
    assert all(listing.store.read(file.key) == b"1" for file in listing.read)
    whole = list_place(str(shop))
    assert read(whole) == read(listing)
    assert set(reasons(whole)) == {"real/dt=2026-10-13/extra.jsonl", "real/dt=2026-10-13/p.jsonl", "real/dt=2026-10-14"}


def test_a_link_never_doubles_a_file_nor_hides_it(tmp_path: Path) -> None:
    """The real name wins; of two links a partition's; a link to a hidden file, as Kubernetes makes them, is the file."""
    shop = tree(tmp_path / "shop", "dt=2026-10-14/a.jsonl", "..2026_1/b.jsonl", "raw/x/c.jsonl")
    tree(tmp_path / "far", "dt=2026-10-15/d.jsonl")
    (shop / "..data").symlink_to("..2026_1")
    (shop / "b.jsonl").symlink_to("..data/b.jsonl")
    (shop / "dt=2026-10-13").symlink_to("raw/x")
    (shop / "language=de").symlink_to("dt=2026-10-14")
    (shop / "again.jsonl").symlink_to("dt=2026-10-14/a.jsonl")
    (shop / "current").symlink_to(tmp_path / "far/dt=2026-10-15")
    (shop / "dt=2026-10-15").symlink_to(tmp_path / "far/dt=2026-10-15")
    listing = list_place(str(shop))
    assert read(listing) == ["b.jsonl", "dt=2026-10-13/c.jsonl", "dt=2026-10-14/a.jsonl", "dt=2026-10-15/d.jsonl"]
    assert reasons(listing) == {
        "..2026_1/b.jsonl": "the folder ..2026_1 begins with .",
        "..data": "the name ..data begins with .",
        "again.jsonl": "a link to a file that is read as dt=2026-10-14/a.jsonl",
        "current": "the same folder as dt=2026-10-15, by another link",
        "language=de/a.jsonl": "a link to a file that is read as dt=2026-10-14/a.jsonl",
        "raw/x/c.jsonl": "in a folder that is no partition: raw",
    }


def test_links_that_lead_nowhere_are_named(tmp_path: Path) -> None:
    """Loops end, also of two folders that link to each other; broken links and pipes are named."""
    shop = tree(tmp_path / "shop", "dt=2026-10-14/a.jsonl", "one/x.txt", "two/y.txt")
    (shop / "dt=2026-10-14/up").symlink_to(shop)
    (shop / "root").symlink_to("/")
    (shop / "self.jsonl").symlink_to("self.jsonl")
    (shop / "gone.jsonl").symlink_to("nothing.jsonl")
    (shop / "one/two").symlink_to(shop / "two")
    (shop / "two/one").symlink_to(shop / "one")
    os.mkfifo(shop / "pipe.jsonl")
    listing = list_place(str(shop))
    assert read(listing) == ["dt=2026-10-14/a.jsonl"]
    found = reasons(listing)
    assert found["dt=2026-10-14/up"] == found["root"] == "a link that leads back to a folder above it"
    assert found["self.jsonl"] == "a link that leads back to itself"
    assert found["gone.jsonl"] == "a broken link"
    assert found["pipe.jsonl"] == "a pipe, socket or device"
    assert len(listing.files) <= 20


def test_a_folder_of_many_links_is_listed_once(tmp_path: Path) -> None:
    """20 folders that all link to each other: without a bound these are 20! paths."""
    names = [f"n={number}" for number in range(20)]
    tree(tmp_path, *(f"{name}/a.jsonl" for name in names))
    for one in names:
        for other in names:
            (tmp_path / one / f"to={other}").symlink_to(tmp_path / other)
    listing = list_place(str(tmp_path))
    assert read(listing) == sorted(f"{name}/a.jsonl" for name in names)


def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the folder; a hidden one is skipped by name. (Root may read all, so that the refusal is made up.)"""
    shop = tree(tmp_path, "logs/dt=2026-10-14/a.jsonl", "logs/dt=2026-10-15/a.jsonl", "logs/.Trash/a.jsonl")
    closed = {".Trash"}
    scandir = os.scandir

    def refusing(path: str) -> object:
        if Path(path).name in closed:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    listing = list_place(str(shop))
    assert len(listing.read) == 2
    assert reasons(listing) == {"logs/.Trash": "the name .Trash begins with ."}
    closed.add("dt=2026-10-15")
    with pytest.raises(StoreError, match=r"Permission denied; where: .*logs/dt=2026-10-15;.*right to read"):
        list_place(str(shop))


def test_a_name_that_is_no_utf8_stops_by_name(tmp_path: Path) -> None:
    """Such a name can't be written in a report: the file is named with its bytes escaped, and not passed over."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl")).write_bytes(b"1")
    (found,) = list_place(str(tmp_path)).unplaced
    assert (found.key, found.skipped) == ("caf\\xe9.jsonl", "unplaced: its name is not UTF-8")


# S3


def test_every_key_of_s3_is_listed_and_read(moto: str, bucket: str) -> None:
    """Empty parts, slashes in front, markers of folders, dots and reserved names; keys are read as they are."""
    keys = ["dt=2020-01-01//old.jsonl", "/a.csv", "dt=2026-10-14/a[1]?#%41 +.jsonl", "dt=2026-10-14/\u200eb\\.jsonl"]
    others = ["dt=2026-10-14/", "", "a/../b.jsonl", "_tmp/x.jsonl", "dt=2026-10-14_$folder$", "dt=2026-10-15", "x.txt"]
    put_objects(moto, bucket, {f"shop/logs/{key}": b"1" for key in keys} | {f"shop/logs/{key}": b"" for key in others})
    for uri in (f"s3://{bucket}/shop", f"s3://{bucket}/shop/logs/", f"s3://{bucket}"):
        listing = list_place(uri)
        assert sorted(file.key for file in listing.files) == [file.key for file in listing.files]
        assert len(listing.files) == len(keys) + len(others)
    listing = list_place(f"s3://{bucket}/shop")
    assert read(listing) == sorted(f"logs/{key}" for key in keys)
    assert all(listing.store.read(file.key) == b"1" for file in listing.read)
    assert [file.day for file in listing.read] == [None, date(2020, 1, 1), date(2026, 10, 14), date(2026, 10, 14)]
    markers = [key for key, reason in reasons(listing).items() if reason == "a marker of a folder"]
    assert markers == ["logs/", "logs/dt=2026-10-14/", "logs/dt=2026-10-14_$folder$", "logs/dt=2026-10-15"]
    for key in keys:
        one = list_place(f"s3://{bucket}/shop/logs/{key}")
        assert (len(one.files), one.store.read(one.read[0].key), one.store.uri_of(one.read[0].key)) == (
            1, b"1", f"s3://{bucket}/shop/logs/{key}",
        )  # fmt: skip
    assert list_place(f"s3://{bucket}/shop/logs/dt=2020-01-01//old.jsonl").read[0].day == date(2020, 1, 1)


def test_addresses_in_s3(moto: str, bucket: str) -> None:
    """Slashes in front of a prefix are its own; a folder named like a file is one; nothing there is told."""
    put_objects(moto, bucket, {"/x//y/a.csv": b"1", "out.parquet/part-0.parquet": b"1", "a.xlsx": b"1", "logs/b.csv": b"1"})
    assert read(list_place(f"s3://{bucket}//x//y/")) == ["a.csv"]
    assert read(list_place(f"s3://{bucket}/out.parquet")) == ["part-0.parquet"]
    assert reasons(list_place(f"s3://{bucket}/a.xlsx")) == {"a.xlsx": "its ending .xlsx is not read"}
    assert read(list_place(f"s3://{bucket}/logs")) == read(list_place(f"s3://{bucket}")) == ["logs/b.csv"]
    for key in ("x/y", "none", "none.csv", "out.parquet/part"):
        with pytest.raises(NotFound, match="there is nothing"):
            list_place(f"s3://{bucket}/{key}")


def test_a_place_in_s3_is_listed_by_one_call(moto: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the number of files: pages of one listing, and no request a file."""
    put_objects(moto, bucket, {f"shop/logs/dt=2026-10-14/{number}.csv": b"1" for number in range(20)})
    calls: list[str] = []
    everything = S3Store.everything
    monkeypatch.setattr(S3Store, "everything", lambda self, prefix="": calls.append(prefix) or everything(self, prefix))
    for name in ("list", "exists", "read", "stream", "folders"):
        monkeypatch.delattr(S3Store, name)
    assert len(list_place(f"s3://{bucket}/shop").read) == 20
    assert calls == [""]


# Tables of a lake


@pytest.mark.parametrize(
    ("marker", "kind"),
    [
        ("_delta_log/00000000000000000000.json", "delta"),
        ("metadata/00001-6819.metadata.json", "iceberg"),
        ("metadata/v3.gz.metadata.json", "iceberg"),
        (".hoodie/hoodie.properties", "hudi"),
    ],
)
@pytest.mark.parametrize("folder", ["", "logs/"])
def test_a_table_is_never_read_as_loose_files(tmp_path: Path, marker: str, kind: str, folder: str) -> None:
    """Its files are those of every version, deleted rows included: none of them is read."""
    names = (marker, "dt=2026-10-14/part-0.snappy.parquet", "data/language=de/0.parquet", "part-1.parquet")
    shop = tree(tmp_path / "a b", *(folder + name for name in names), "brands.txt")
    for uri in {str(shop), f"{shop}/{folder}".rstrip("/")}:
        listing = list_place(uri)
        assert (listing.table if kind != "iceberg" or "gz" not in marker else "iceberg", listing.folder) == (kind, folder)
        assert listing.address == f"{shop.as_uri()}/{folder}".rstrip("/")
        assert (listing.read, listing.unplaced) == ((), ())
        assert reasons(listing)[folder + "part-1.parquet"] == f"part of a table: {kind.capitalize()}"


def test_a_table_deeper_in_a_source_is_no_loose_file_either(tmp_path: Path) -> None:
    """A run can stop at it; the other files are read."""
    shop = tree(tmp_path, "logs/web/_delta_log/0.json", "logs/web/dt=2026-10-14/a.parquet", "logs/dt=2026-10-14/b.parquet")
    listing = list_place(str(shop))
    assert (listing.table, read(listing)) == ("", ["logs/dt=2026-10-14/b.parquet"])
    assert [file.skipped for file in listing.unplaced] == ["unplaced: part of a table: Delta; give the table's own address"]


def test_an_iceberg_table_may_be_given_by_its_metadata(tmp_path: Path) -> None:
    """Only the catalogue knows the current one for certain."""
    shop = tree(tmp_path, "metadata/00001-6819.metadata.json", "data/a.parquet")
    listing = list_place(f"{shop}/metadata/00001-6819.metadata.json")
    assert (listing.table, listing.address) == ("iceberg", f"{shop.as_uri()}/metadata/00001-6819.metadata.json")


# All of it


PARTS = [
    "dt=2026-10-14",
    "dt=x",
    "language=de",
    "_tmp",
    ".git",
    "raw",
    "clicks",
    "logs",
    "a b [1]",
    "%41",
    "ü",
    "_delta_log",
    "metadata",
]
NAMES = [
    "a.jsonl",
    "B.CSV.gz",
    "c.xlsx",
    "d",
    "_e.csv",
    ".f.csv",
    "g[1]?.parquet",
    "brands.txt",
    "0.metadata.json",
    "h.md5",
    "\u200ei\n.csv",
]


def random_tree(root: Path, seed: int, *, links: bool = True) -> Path:
    choose = random.Random(seed)
    folders = [root]
    root.mkdir()
    for _ in range(choose.randrange(12)):
        folder = choose.choice(folders) / choose.choice(PARTS)
        folder.mkdir(exist_ok=True)
        folders.append(folder)
    for _ in range(1 + choose.randrange(25)):
        (choose.choice(folders) / choose.choice(NAMES)).write_bytes(b"1" * choose.randrange(3))
    for number in range(choose.randrange(5) if links else 0):
        (choose.choice(folders) / f"{choose.choice(['l', 'm=', '_n'])}{number}").symlink_to(
            choose.choice([*folders, root / "none"])
        )
    return root


@pytest.mark.parametrize("seed", range(60))
def test_every_file_on_disk_is_listed_once(tmp_path: Path, seed: int) -> None:
    """What os.walk finds, links apart, is what the listing has: each file once, read or with its reason."""
    root = random_tree(tmp_path / "shop", seed)
    expected = [os.path.relpath(Path(folder) / name, root) for folder, _, names in os.walk(root) for name in names]
    plain = sorted(name for name in expected if not (root / name).is_symlink())
    links = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink()]
    listing = list_place(str(root))
    keys = [file.key for file in listing.files]
    assert keys == sorted(set(keys))
    assert [key for key in keys if not any(f"{key}/".startswith(f"{link}/") for link in links)] == plain
    for link in links:
        below = [path for path in (root / link).rglob("*") if not path.is_dir()] if (root / link).is_dir() else [root]
        assert not below or any(f"{key}/".startswith(f"{link}/") for key in keys)
    assert len(listing.read) + len(listing.skipped) == len(listing.files)
    real = [os.path.realpath(root / file.key) for file in listing.read]
    assert len(real) == len(set(real))
    assert all((root / file.key).stat().st_size == file.size for file in listing.read)


@pytest.mark.parametrize("seed", range(8))
def test_a_bucket_is_listed_as_the_same_folder_is(tmp_path: Path, moto: str, bucket: str, seed: int) -> None:
    """The same files give the same entries on disk and in S3, each object of the bucket once."""
    root = random_tree(tmp_path / "shop", 1000 + seed, links=False)
    files = {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file() and "\n" not in path.name
    }
    for path in root.rglob("*\n*"):
        path.unlink()
    put_objects(moto, bucket, {f"shop/{key}": data for key, data in files.items()})
    if not files:
        return
    far = list_place(f"s3://{bucket}/shop")
    assert far.files == list_place(str(root)).files
    assert [file.key for file in far.files] == sorted(files)


def test_six_thousand_files_are_listed_in_a_second(tmp_path: Path) -> None:
    """60 days of 100 files."""
    for day in range(60):
        folder = tmp_path / f"logs/dt=2026-{day // 28 + 1:02d}-{day % 28 + 1:02d}/language=de"
        folder.mkdir(parents=True)
        for number in range(100):
            (folder / f"part-{number}.jsonl").touch()
    start = time.perf_counter()
    listing = list_place(str(tmp_path))
    assert time.perf_counter() - start < 1
    assert len(listing.files) == 6000


def test_the_store_of_a_listing_has_the_companions(tmp_path: Path) -> None:
    """Of a folder, of its logs/ and of a single file: the store is where companions lie."""
    shop = tree(tmp_path, "logs/a.csv", "brands.txt", "b.csv")
    for uri in (shop, shop / "logs", shop / "b.csv"):
        store = list_place(str(uri)).store
        assert (store.uri, store.exists("brands.txt")) == (open_store(str(shop)).uri, True)
