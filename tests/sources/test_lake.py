"""Tables of a lake: read by their own library, refused by name without it. The reading needs the extra `lake`."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from relevance_core.errors import DataError
from relevance_core.sources.lake import read_table
from relevance_core.sources.listing import list_place
from tests.support.registry_cases import make_bucket, moto_server, use_server

START, END = datetime(2026, 10, 13, tzinfo=UTC), datetime(2026, 10, 15, tzinfo=UTC)


@pytest.fixture
def delta() -> Any:
    return pytest.importorskip("deltalake", reason="needs the extra lake")


@pytest.fixture
def iceberg() -> Any:
    pytest.importorskip("pyiceberg", reason="needs the extra lake")
    return pytest.importorskip("pyiceberg.catalog.memory", reason="needs the extra lake")


def rows(day: str = "2026-10-14", number: int = 4, **more: Any) -> pl.DataFrame:
    moment = datetime.fromisoformat(day).replace(hour=1, tzinfo=UTC)
    return pl.DataFrame(
        {"query": [f"q{index}" for index in range(number)], "label": [1] * number, "event_time": [moment] * number} | more
    )


def read(address: Path | str, columns: Mapping[str, str] | None = None) -> pl.DataFrame:
    listing = list_place(str(address))
    return read_table(listing.table, listing.address, START, END, columns).rows


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ("_delta_log/0.json", r"a Delta table, and the package deltalake .*where: .*a%20b;.*pip install 'relevance-loop\[lake\]'"),
        ("metadata/0-a.metadata.json", r"an Iceberg table, and the package pyiceberg .*pip install 'relevance-loop\[lake\]'"),
        (".hoodie/hoodie.properties", r"a Hudi table is not read; where: .*a%20b;.*export the rows as Parquet"),
    ],
)
def test_without_its_library_a_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marker: str, told: str) -> None:
    """The refusal names the kind of table and the package; a Hudi table is refused always."""
    for package in ("deltalake", "pyiceberg"):
        monkeypatch.setitem(sys.modules, package, None)
    path = tmp_path / "a b" / marker
    path.parent.mkdir(parents=True)
    path.touch()
    listing = list_place(str(tmp_path / "a b"))
    assert listing.files[0].key == marker
    with pytest.raises(DataError, match=told):
        read_table(listing.table, listing.address, START, END)


class PanicException(BaseException):
    """As a library in Rust raises it."""


def test_a_panic_of_a_library_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A panic is no Exception; stopping the program by a key is none of the library's errors."""

    def failing(error: BaseException) -> Any:
        def table(*_: object, **__: object) -> None:
            raise error

        return SimpleNamespace(DeltaTable=table)

    monkeypatch.setitem(sys.modules, "deltalake", failing(PanicException("Invalid url\nat line 1")))
    with pytest.raises(DataError, match=r"the Delta table can't be read: Invalid url at line 1; where: /x;"):
        read_table("delta", "/x", START, END)
    monkeypatch.setitem(sys.modules, "deltalake", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        read_table("delta", "/x", START, END)


def test_a_delta_table_is_its_current_rows(delta: Any, tmp_path: Path) -> None:
    """Deleted and replaced rows are gone though their files lie there; the version changes with each write."""
    plain, odd = tmp_path / "plain", tmp_path / "shop [prod] #1?"
    tables = []
    for change in (
        lambda: delta.write_deltalake(str(plain), rows(dt="2026-10-14", note="x"), partition_by=["dt"]),
        lambda: delta.DeltaTable(str(plain)).delete("query = 'q1'"),
    ):
        change()
        plain.rename(odd)
        tables += [read_table("delta", odd.as_uri(), START, END) for _ in range(2)]
        odd.rename(plain)
    first, again, second, _ = tables
    assert sorted(second.rows["query"]) == ["q0", "q2", "q3"]
    assert second.rows.columns == ["query", "label", "event_time"]
    assert second.ignored == ("dt", "note")
    assert first.version == again.version != second.version


@pytest.mark.parametrize("kind", ["text", "compact", "date", "three"])
def test_only_partitions_of_the_window_of_a_delta_table_are_read(delta: Any, tmp_path: Path, kind: str) -> None:
    """Partitions by text, date or year, month and day; without a column of times the partition's day is the rows'."""
    for day in ("2026-10-12", "2026-10-13", "2026-10-14", "2026-10-15"):
        moment = date.fromisoformat(day)
        named = {
            "text": {"dt": day},
            "compact": {"ds": day.replace("-", "")},
            "date": {"date": moment},
            "three": {"year": moment.year, "month": moment.month, "day": moment.day},
        }[kind]
        frame = rows(day, 1).drop("event_time").with_columns(**{name: pl.lit(value) for name, value in named.items()})
        delta.write_deltalake(str(tmp_path / "t"), frame.with_columns(query=pl.lit(day)), partition_by=list(named), mode="append")
    found = read(tmp_path / "t").sort("query")
    assert found["query"].to_list() == ["2026-10-13", "2026-10-14"]
    assert found["event_date"].to_list() == [date(2026, 10, 13), date(2026, 10, 14)]


def test_a_partition_without_a_day_is_read(delta: Any, tmp_path: Path) -> None:
    """Nothing is left out for a day that can't be read: such rows have no date."""
    frame = rows(number=2).drop("event_time").with_columns(dt=pl.Series([None, "x"], dtype=pl.String))
    delta.write_deltalake(str(tmp_path / "t"), frame, partition_by=["dt"])
    assert read(tmp_path / "t").sort("query").select("query", "event_date").rows() == [("q0", None), ("q1", None)]


def test_rows_far_outside_the_window_are_left_in_a_delta_table(delta: Any, tmp_path: Path) -> None:
    """By the column of times, own names of it included; a null in it stays."""
    days = ["2026-10-01", "2026-10-12", "2026-10-15", "2026-10-30"]
    frame = pl.concat(
        [rows(day, 1).with_columns(query=pl.lit(day)) for day in days]
        + [rows(number=1, event_time=pl.Series([None], dtype=pl.Datetime("us", "UTC")))]
    )
    for number, own in enumerate(({}, {"At": "event_time"})):
        path = tmp_path / str(number)
        delta.write_deltalake(str(path), frame.rename({"event_time": "At"} if own else {}))
        assert sorted(read(path, own)["query"]) == ["2026-10-12", "2026-10-15", "q0"]


def z85(data: bytes) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    numbers = [int.from_bytes(data[index : index + 4], "big") for index in range(0, len(data), 4)]
    return "".join(digits[number // 85**power % 85] for number in numbers for power in (4, 3, 2, 1, 0))


def rewrite_log(path: Path, number: int, actions: list[dict[str, Any]]) -> None:
    (path / f"_delta_log/{number:020d}.json").write_text("\n".join(map(json.dumps, actions)))


def test_deletion_vectors_are_obeyed(delta: Any, tmp_path: Path) -> None:
    """Rows 1 and 3 of a file are deleted by a vector in the log, as Databricks and Spark write them."""
    path = tmp_path / "t"
    delta.write_deltalake(str(path), rows(number=5))
    log = [json.loads(line) for line in (path / f"_delta_log/{0:020d}.json").read_text().splitlines()]
    add = next(action["add"] for action in log if "add" in action)
    bitmap = struct.pack("<IQIIIHHIHH", 1681511377, 1, 0, 12346, 1, 0, 1, 16, 1, 3)
    vector = {
        "storageType": "i",
        "pathOrInlineDv": z85(bitmap + bytes(-len(bitmap) % 4)),
        "sizeInBytes": len(bitmap),
        "cardinality": 2,
    }
    features = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"],
        "writerFeatures": ["deletionVectors"],
    }
    rewrite_log(
        path,
        1,
        [
            {"protocol": features},
            {
                "remove": {
                    "path": add["path"],
                    "deletionTimestamp": 1,
                    "dataChange": True,
                    "size": add["size"],
                    "partitionValues": {},
                }
            },
            {"add": add | {"deletionVector": vector}},
        ],
    )
    assert sorted(read(path)["query"]) == ["q0", "q2", "q4"]


def test_renamed_columns_are_obeyed(delta: Any, tmp_path: Path) -> None:
    """A column mapping gives a column another name than its files do."""
    path = tmp_path / "t"
    delta.write_deltalake(str(path), rows().rename({"query": "col-1"}))
    log = [json.loads(line) for line in (path / f"_delta_log/{0:020d}.json").read_text().splitlines()]
    for action in log:
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
        if "metaData" in action:
            schema = json.loads(action["metaData"]["schemaString"])
            for number, column in enumerate(schema["fields"], 1):
                column["metadata"] = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": column["name"]}
                column["name"] = "query" if column["name"] == "col-1" else column["name"]
            action["metaData"]["schemaString"] = json.dumps(schema)
            action["metaData"]["configuration"] = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "3"}
    rewrite_log(path, 0, log)
    assert sorted(read(path)["query"]) == ["q0", "q1", "q2", "q3"]


def test_a_damaged_delta_table_is_named(delta: Any, tmp_path: Path) -> None:
    """A data file that is gone ends the reading with the table's address."""
    delta.write_deltalake(str(tmp_path / "t"), rows())
    next((tmp_path / "t").glob("*.parquet")).unlink()
    with pytest.raises(DataError, match=r"the Delta table can't be read: .*where: .*/t;"):
        read(tmp_path / "t")


@pytest.mark.parametrize("address", ["/x/a%41", "/x/a\\b", "s3://lake/a#b", "s3://lake/a?b", "s3://lake//a"])
def test_a_name_that_the_library_would_change_is_refused(delta: Any, address: str) -> None:
    """deltalake takes a%41 for aA, and cuts an address in S3 at #: another table would be read."""
    with pytest.raises(DataError, match="would look into another folder"):
        read_table("delta", address, START, END)


def iceberg_table(iceberg: Any, root: Path, frame: pl.DataFrame) -> Any:
    catalog = iceberg.InMemoryCatalog("shop", warehouse=root.as_uri())
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.logs", schema=frame.to_arrow(compat_level=pl.CompatLevel.oldest()).schema)
    table.append(frame.to_arrow(compat_level=pl.CompatLevel.oldest()))
    return table


def test_an_iceberg_table_is_its_current_rows(iceberg: Any, tmp_path: Path) -> None:
    """By its folder or its metadata file: rows deleted since, and rows far outside the window, are gone."""
    table = iceberg_table(iceberg, tmp_path, pl.concat([rows(), rows("2026-10-01", 2)]))
    before = table.metadata_location
    table.delete("query == 'q1'")
    folder = Path(table.location().removeprefix("file://"))
    assert sorted(read(folder)["query"]) == ["q0", "q2", "q3"]
    assert sorted(read(before.removeprefix("file://"))["query"]) == ["q0", "q1", "q2", "q3"]
    first, second = (read_table("iceberg", address, START, END) for address in (before, folder.as_uri()))
    assert first.version != second.version
    assert second.rows.columns == ["query", "label", "event_time"]


def test_two_newest_metadata_files_are_refused(iceberg: Any, tmp_path: Path) -> None:
    """A failed commit leaves a file of the same number: only the catalog knows which is current."""
    table = iceberg_table(iceberg, tmp_path, rows())
    folder = Path(table.location().removeprefix("file://"))
    newest = Path(table.metadata_location.removeprefix("file://"))
    shutil.copy(newest, newest.with_name("00001-other.metadata.json"))
    with pytest.raises(DataError, match=r"catalog alone knows.*2 files.*set source\.uri"):
        read(folder)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, str]]]:
    with moto_server() as endpoint:
        use_server(monkeypatch, endpoint)
        make_bucket(endpoint, "lake")
        yield endpoint, {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"}


def test_tables_in_s3_are_read_with_the_keys_of_the_store(
    delta: Any, iceberg: Any, tmp_path: Path, bucket: tuple[str, dict[str, str]]
) -> None:
    """Endpoint, region and keys come from the same settings as the store's."""
    delta.write_deltalake("s3://lake/shop/logs", rows(), storage_options=bucket[1])
    assert sorted(read("s3://lake/shop")["query"]) == ["q0", "q1", "q2", "q3"]
    keys = {
        "s3.endpoint": bucket[0],
        "s3.access-key-id": "test-access",
        "s3.secret-access-key": "test-secret",
        "s3.region": "us-east-1",
    }
    catalog = iceberg.InMemoryCatalog("shop", warehouse="s3://lake/ice", **keys)
    catalog.create_namespace("shop")
    data = rows().to_arrow(compat_level=pl.CompatLevel.oldest())
    catalog.create_table("shop.logs", schema=data.schema).append(data)
    assert sorted(read("s3://lake/ice/shop/logs")["query"]) == ["q0", "q1", "q2", "q3"]
