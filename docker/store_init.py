"""Makes the bucket of the small system, says who may do what in it, and proves that its conditional writes have one winner.

Runs once at each start, with the root account's key; what is there already stays. Exits with 1 for a store that lets two writers
win: with such a one, two publishers could overwrite each other without a trace.
"""

import secrets
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

ROUNDS = 20
WRITERS = 16
PRECONDITION_FAILED, CONFLICT = 412, 409


def make(client: Any, bucket: str, policy: str) -> None:
    """Creates the bucket unless it is there, and sets its policy."""
    try:
        client.create_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
    client.put_bucket_policy(Bucket=bucket, Policy=policy)


def winners(client: Any, bucket: str, key: str) -> int:
    """How many of WRITERS concurrent writers were told that they created `key`; the object is deleted afterwards."""
    together = threading.Barrier(WRITERS)

    def write(number: int) -> bool:
        together.wait()
        try:
            client.put_object(Bucket=bucket, Key=key, Body=str(number).encode(), IfNoneMatch="*")
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (PRECONDITION_FAILED, CONFLICT):
                raise
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        won = sum(pool.map(write, range(WRITERS)))
    client.delete_object(Bucket=bucket, Key=key)
    return won


def main(bucket: str, policy: Path) -> int:
    """Does it all; the exit status."""
    import boto3

    # A repeated request can meet the object that its own first try made, so nothing is repeated here.
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=WRITERS, s3={"addressing_style": "path"})
    client = boto3.client("s3", config=config)
    make(client, bucket, policy.read_text(encoding="utf-8"))
    for _ in range(ROUNDS):
        won = winners(client, bucket, f".probe/race-{secrets.token_hex(8)}")
        if won != 1:
            sys.stderr.write(
                f"{won} of {WRITERS} writers created one object; this store can't hold the registry (docs/registry.md)\n"
            )
            return 1
    sys.stdout.write(f"bucket {bucket}: ready; {ROUNDS} races of {WRITERS} writers had one winner each\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
