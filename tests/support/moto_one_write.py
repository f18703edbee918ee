"""moto's server, one write at a time.

moto looks whether a key is there and then stores it, with no lock between: of two writers at the same moment both can win, which no
store that honours the condition allows. Everything else is moto's own.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from moto import server

from relevance_core.processes import collect_rarely

_RUN = server.run_simple
_TURN_SECONDS = 0.05


def run_simple(host: str, port: int, app: Callable[..., Any], **options: Any) -> None:
    """Serves `app` with a lock around every PUT and POST."""
    lock = threading.Lock()

    def locked(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] not in {"PUT", "POST"}:
            return app(environ, start_response)
        with lock:
            return app(environ, start_response)

    _RUN(host, port, locked, **options)


if __name__ == "__main__":
    # A log that nobody reads, looking for garbage and threads that take turns: a tenth to a fifth of what a race of 16 takes.
    collect_rarely()
    logging.disable()
    sys.setswitchinterval(_TURN_SECONDS)
    server.run_simple = run_simple
    server.main()
