"""Whether a process of Airflow is healthy, by what the API server says of it: exit status 0 or 1.

`airflow jobs check` says the same from the database, but imports Airflow each time, which costs seconds of a core a minute for
each process that is looked at. Beside an API server that is down, everything looks unhealthy here.
"""

import json
import sys
import urllib.request


def status_of(component: str, url: str) -> str:
    """The status of metadatabase, scheduler, dag_processor or triggerer, from the API server at `url`."""
    with urllib.request.urlopen(f"{url}/api/v2/monitor/health", timeout=10) as answer:  # noqa: S310 - http, on a network of our own
        return str((json.load(answer).get(component) or {}).get("status"))


if __name__ == "__main__":
    found = status_of(sys.argv[1], sys.argv[2])
    sys.stdout.write(f"{sys.argv[1]}: {found}\n")
    sys.exit(found != "healthy")
