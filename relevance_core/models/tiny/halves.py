"""A long training in two processes: each computes one half of every step, and the gradients are added up.

Both processes do all the rest alike (the same text, the same batches, the same optimiser), so that only gradients pass between
them, and the bits are those of a single process that computes both halves, one after the other: a sum of two terms does not depend
on their order.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, distributed

from relevance_core.errors import ModelError
from relevance_core.processes import forked, take_on

_LONGEST_WAIT: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class Halves:
    """The halves of a step, of 0 and 1, that this process computes."""

    mine: tuple[int, ...]

    @property
    def writes(self) -> bool:
        """True for the process, of the two, that writes the result of the training."""
        return 0 in self.mine

    def add_up(self, parameters: Sequence[Tensor], *figures: Tensor) -> None:
        """Sums the gradients of `parameters`, and `figures`, over both halves, in place.

        Every parameter needs a gradient. Raises ModelError when the other process is gone.
        """
        if len(self.mine) == 2:
            return
        tensors = [*(parameter.grad for parameter in parameters if parameter.grad is not None), *figures]
        summed = torch.cat([tensor.flatten() for tensor in tensors])
        try:
            distributed.all_reduce(summed)
        except RuntimeError as error:
            raise ModelError(
                f"the other process of a training on two ended: {str(error).splitlines()[0]}",
                expected="memory for two processes",
                do="run the stage again, with engine.workers=1 to do without a second process",
            ) from error
        at = 0
        for tensor in tensors:
            tensor.copy_(summed[at : at + tensor.numel()].view_as(tensor))
            at += tensor.numel()


ALONE: Final = Halves((0, 1))


@contextlib.contextmanager
def with_another(work: Callable[[Halves], object]) -> Iterator[Halves]:
    """Starts a process that runs `work` with the second halves, and yields the first halves for this one, which has to do the same.

    work: importable by name, since it is pickled. The other process ends with the block.
    """
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder) / "meeting"
        other = forked().Process(target=_second, args=(dict(os.environ), work, meeting), daemon=True)
        other.start()
        try:
            with _met(meeting, 0) as halves:
                yield halves
        finally:
            other.kill()
            other.join()


def _second(environment: dict[str, str], work: Callable[[Halves], object], meeting: Path) -> None:
    take_on(environment)
    with _met(meeting, 1) as halves:
        work(halves)


@contextlib.contextmanager
def _met(meeting: Path, half: int) -> Iterator[Halves]:
    # Without it, gloo looks up this machine's own name, which may have no address.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=half, world_size=2, timeout=_LONGEST_WAIT)
    try:
        yield Halves((half,))
    finally:
        distributed.destroy_process_group()
