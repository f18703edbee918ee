"""The object store on S3, or on any server that speaks its protocol and honours `If-None-Match: *`.

Credentials, region and endpoint come from the sources that the AWS tools read (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`,
`AWS_REGION`, `AWS_ENDPOINT_URL_S3`, an instance role …). A custom endpoint is addressed path-style.
"""

import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any

from typing_extensions import override

from relevance_core.errors import NotFound, RelevanceError, SettingsError, StoreError
from relevance_core.store.disk import CHUNK
from relevance_core.store.objects import RESERVED, Entries, Entry, Names, Store, check_found, check_key

_PUT_LIMIT = 5 * 1024**3
#: Up to this size upload_file makes one request too, but starts threads for it.
_ONE_REQUEST = 8 * 1024**2
_ATTEMPTS = 6
_WRITER = "relevance-writer"
_PLAIN_PATHS = "give keys that may read, write and list this bucket"
_REMEDIES = {
    "NoSuchBucket": "create the bucket, or correct its name in the store's address",
    "AccessDenied": _PLAIN_PATHS,
    "403": _PLAIN_PATHS,
    "InvalidAccessKeyId": "correct AWS_ACCESS_KEY_ID; this server does not know it",
    "SignatureDoesNotMatch": "correct AWS_SECRET_ACCESS_KEY; it does not belong to this access key",
    "ExpiredToken": "renew the session token",
    "301": "set AWS_REGION to the bucket's region",
    "PermanentRedirect": "set AWS_REGION to the bucket's region",
    "AuthorizationHeaderMalformed": "set AWS_REGION to the bucket's region",
    "QuotaExceeded": "free space in the bucket, or raise its quota",
    "InsufficientStorage": "free space on the storage server",
    "507": "free space on the storage server",
    "NotImplemented": "use a store that honours If-None-Match: * (AWS S3, Ceph RGW, versitygw ≥ 1.8)",
    "501": "use a store that honours If-None-Match: * (AWS S3, Ceph RGW, versitygw ≥ 1.8)",
}


class S3Store(Store):
    """Objects below `s3://<bucket>/<prefix>`.

    The first operation creates the client and checks the bucket. A missing bucket, missing or wrong credentials and an unreachable
    server each raise a `StoreError` that says so.
    """

    def __init__(self, bucket: str, prefix: str = "", *, endpoint: str = "", region: str = "") -> None:
        super().__init__()
        if not bucket:
            raise SettingsError("the store's address names no bucket", expected="s3://bucket/prefix")
        self._bucket, self._prefix = bucket, check_found(prefix, folders=False) + "/" if prefix else ""
        self._endpoint, self._region = endpoint, region
        self._client: Any = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, tuple[str, str, str, str]]:
        return (_unpickle, (self._bucket, self._prefix.removesuffix("/"), self._endpoint, self._region))

    @override
    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    @property
    @override
    def uri(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".removesuffix("/")

    @override
    def uri_of(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{check_found(key, folders=False)}"

    @override
    def local_path(self, key: str) -> Path | None:
        check_found(key, folders=False)
        return None

    @override
    def stream(self, key: str) -> Iterator[bytes]:
        with self._errors("reading an object", key), closing(self._s3.get_object(**self._at(key))["Body"]) as body:
            yield from body.iter_chunks(CHUNK)

    @override
    def read(self, key: str) -> bytes:
        """Returns the object's whole content; an interrupted answer is requested again. Raises `NotFound`."""
        from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

        with self._errors("reading an object", key):
            for attempt in range(_ATTEMPTS):
                try:
                    with closing(self._s3.get_object(**self._at(key))["Body"]) as body:
                        return bytes(body.read())
                except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
                    if attempt == _ATTEMPTS - 1:
                        raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    @override
    def exists(self, key: str) -> bool:
        try:
            with self._errors("looking up an object", key):
                self._s3.head_object(**self._at(key))
        except NotFound:
            return False
        return True

    @override
    def list(self, prefix: str = "", after: str = "") -> Entries:
        # Some tools store an empty object "folder/" to show a folder; it holds no data.
        return [entry for entry in self._entries(prefix, after) if entry.key and not entry.key.endswith("/")]

    @override
    def everything(self, prefix: str = "") -> Entries:
        return self._entries(prefix)

    def _entries(self, prefix: str, after: str = "") -> Entries:
        found = self._listed("Contents", prefix, **({"StartAfter": self._prefix + after} if after else {}))
        entries = (
            Entry(str(item["Key"])[len(self._prefix) :], int(item["Size"]), str(item["ETag"]), item["LastModified"].timestamp())
            for item in found
        )
        return sorted(entry for entry in entries if entry.key.partition("/")[0] not in RESERVED)

    @override
    def folders(self, prefix: str) -> Names:
        found = self._listed("CommonPrefixes", prefix, Delimiter="/")
        return sorted(str(item["Prefix"]).removeprefix(self._prefix + prefix).removesuffix("/") for item in found)

    def _listed(self, what: str, prefix: str, **how: str) -> Any:
        """Returns the items of all pages of a listing."""
        with self._errors("listing the store", prefix):
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix, **how)
            return [item for page in pages for item in page.get(what, [])]

    @override
    def delete(self, key: str) -> None:
        with self._errors("deleting an object", key):
            self._s3.delete_object(**self._at_new(check_key(key)))

    @override
    def _put(self, key: str, data: bytes | Path) -> None:
        with self._errors("writing an object", key):
            if isinstance(data, Path) and data.stat().st_size > _ONE_REQUEST:
                self._s3.upload_file(str(data), **self._at_new(key))
            else:
                with _body(data) as body:
                    self._s3.put_object(**self._at_new(key), Body=body)

    @override
    def _put_if_absent(self, key: str, data: bytes | Path) -> bool:
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        if size > _PUT_LIMIT:
            raise StoreError(
                f"{size} bytes can't be created in one request", where=self._name(key), expected=f"at most {_PUT_LIMIT} bytes",
                do="split the file; a create is one PutObject, because that is what every store makes atomic",
            )  # fmt: skip
        with self._errors("creating an object", key):
            return self._create(key, data)

    def _create(self, key: str, data: bytes | Path) -> bool:
        """Sends PutObject with If-None-Match: *; status 412 means a lost race, 409 a retry.

        A repeated request (by botocore after a broken connection, or by this method) can meet the object that its own first attempt
        created. Each call therefore signs its object, and a 412 after a repetition reads the signature.
        """
        from botocore.exceptions import ClientError

        writer = secrets.token_hex(16)
        for attempt in range(_ATTEMPTS):
            try:
                with _body(data) as body:
                    self._s3.put_object(**self._at_new(key), Body=body, IfNoneMatch="*", Metadata={_WRITER: writer})
                return True
            except ClientError as error:
                status = error.response["ResponseMetadata"]["HTTPStatusCode"]
                repeated = attempt > 0 or error.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
                if status == 412:
                    return repeated and self._writer_of(key) == writer
                if status != 409 or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(random.uniform(0, 0.05 * 2**attempt))  # noqa: S311 - jitter, not a secret
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _writer_of(self, key: str) -> str:
        return str(self._s3.head_object(**self._at_new(key))["Metadata"].get(_WRITER, ""))

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_found(key, folders=False)}

    def _at_new(self, key: str) -> dict[str, str]:
        """Returns the place of an object that is written, whose key was checked; the store's prefix has to be as plain."""
        if self._prefix:
            check_key(self._prefix.removesuffix("/"))
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def _name(self, key: str) -> str:
        address = f"s3://{self._bucket}/{self._prefix}{key}".rstrip("/")
        return f"{address} at {self._endpoint}" if self._endpoint else address

    @property
    def _s3(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> Any:
        import boto3
        from botocore.config import Config
        from botocore.session import get_session

        config = Config(
            retries={"mode": "standard", "max_attempts": 4},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=32,
            s3={"addressing_style": "path" if self._endpoint else "auto"},
            # Checksum trailers, boto3's default, are refused by several S3 servers; digests are checked by the readers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        region = self._region or ("us-east-1" if self._endpoint else None)
        core = get_session()
        core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
        session = boto3.session.Session(botocore_session=core)
        client = session.client("s3", endpoint_url=self._endpoint or None, region_name=region, config=config)
        # The error of a listing has a body that tells a missing bucket from wrong keys; HeadBucket's has none.
        client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        return client

    @contextmanager
    def _errors(self, doing: str, key: str) -> Iterator[None]:
        """Raises boto3's errors as the package's own."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except RelevanceError:
            raise
        except ClientError as error:
            raise self._refusal(doing, key, error.response) from error
        except (BotoCoreError, Boto3Error, OSError) as error:
            raise StoreError(f"{doing} failed: {error}", where=self._name(key), do=_remedy(error)) from error

    def _refusal(self, doing: str, key: str, response: Any) -> RelevanceError:
        code = str(response.get("Error", {}).get("Code", ""))
        message = str(response.get("Error", {}).get("Message", ""))
        if code == "NoSuchBucket":
            message = f"the bucket {self._bucket!r} does not exist"
        if code in {"404", "NoSuchKey"}:
            return NotFound(f"there is no object {key!r}", where=self._name(""), do="list the store to see what is there")
        return StoreError(
            f"{doing} was refused: {code} {message}".rstrip(),
            where=self._name(key),
            do=_REMEDIES.get(code, "look at the storage server's log for this request"),
        )


def _unpickle(bucket: str, prefix: str, endpoint: str, region: str) -> S3Store:
    return S3Store(bucket, prefix, endpoint=endpoint, region=region)


def _remedy(error: Exception) -> str:
    from botocore import exceptions

    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role"
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        return "start the storage server, or correct AWS_ENDPOINT_URL_S3; check that this machine may reach it"
    return "check the store's address, region and credentials"


@contextmanager
def _body(data: bytes | Path) -> Iterator[bytes | IO[bytes]]:
    if isinstance(data, Path):
        with data.open("rb") as file:
            yield file
    else:
        yield data


def _time(text: str) -> datetime:
    """Parses a timestamp of an answer, from a listing (ISO 8601) or a header (RFC 9110).

    botocore's own parser tries many formats, which takes a good part of the time of reading a small object and most of the time of
    listing many.
    """
    from botocore.utils import parse_timestamp

    for known in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return known(text)
        except ValueError:
            continue
    return parse_timestamp(text)


def endpoint_from_environment() -> str:
    """Returns the custom endpoint that the AWS tools would use for S3, or ''."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def region_from_environment() -> str:
    """Returns the region that the AWS tools would use, or '' where a profile decides."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
