"""`python -m relevance_core.tools.demo run|up|down`: the program behind `make demo`, `make up` and `make down`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from relevance_core.errors import RelevanceError
from relevance_core.tools.demo.nights import PROJECT, Demo

log = logging.getLogger("relevance_core.tools.demo")


def main() -> int:
    """Runs one command; the exit status is 1 where something failed, with the cause on stdout."""
    parser = argparse.ArgumentParser(
        prog="python -m relevance_core.tools.demo", description="the loop in a real Airflow on this machine"
    )
    parser.add_argument("command", choices=["run", "up", "down"])
    parser.add_argument("--folder", type=Path, default=PROJECT / ".demo", help="where everything of the demo lies")
    parser.add_argument("--port", type=int, default=int(os.environ.get("RELEVANCE_UI_PORT") or 8080), help="the UI's port")
    options = parser.parse_args()
    # `kill` must stop the Airflow that this process started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    log_to_stdout()
    demo = Demo(folder)
    try:
        match options.command:
            case "run":
                demo.run(options.port)
            case "up":
                up(demo, options.port)
            case "down":
                demo.airflow.stop()
    except RelevanceError as error:
        log.error("failed: %s", error)
        return 1
    except KeyboardInterrupt:
        log.info("interrupted; the same command goes on from the finished stages")
        return 130
    return 0


def up(demo: Demo, port: int) -> None:
    """Starts Airflow, leaves it running, and says how to get in."""
    demo.up(port).close()
    login = demo.airflow.login()
    log.info("Airflow runs at %s", login["url"])
    log.info("user %s, password %s  (kept in %s)", login["user"], login["password"], demo.airflow.login_file)
    log.info("make down stops it")


def log_to_stdout() -> None:
    """Shows the lines of the demo to the person who started it, as they are."""
    log.addHandler(logging.StreamHandler(sys.stdout))
    log.setLevel(logging.INFO)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
