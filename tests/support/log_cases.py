"""What the tests of logging run in other processes; run by itself, it starts them with the command line's handler on stderr."""

from __future__ import annotations

import logging
import os

import torch

from relevance_core.cli.console import log_to_stderr
from relevance_core.models.ranks import Rank, run_ranks
from relevance_core.models.tiny.halves import Halves, with_another
from relevance_core.processes import PartLogger, map_processes, part

log = PartLogger(logging.getLogger("relevance_core.models.somewhere"))


def tell(number: int) -> int:
    """Logs at three levels; returns the process."""
    log.debug("too much of %d", number)
    log.info("at work on %d", number)
    log.warning("a doubt about %d", number)
    return os.getpid()


def tell_as(rank: Rank) -> None:
    """Logs which of the processes of a training it is."""
    log.info("rank %d of %d", rank.number, rank.count)


def tell_half(halves: Halves) -> None:
    """Logs which half it computes, and adds up once so that both have done so."""
    log.info("half %s", halves.mine)
    halves.add_up([], torch.ones(1))


if __name__ == "__main__":
    from tests.support import log_cases  # by its name, since children know no __main__ of this one

    log_to_stderr()
    with part("denoise QC"):
        if os.getpid() in map_processes(log_cases.tell, [1, 2], 2):
            raise SystemExit("no process of its own")
        run_ranks(log_cases.tell_as, (), 2, torch.device("cpu"))
        with with_another(log_cases.tell_half) as mine:
            log_cases.tell_half(mine)
