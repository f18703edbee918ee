"""The process of a server: vLLM's own API server, which ends when the process that started it is gone.

`python -m relevance_core.serving.launch FLAGS` takes the flags of vLLM's API server. Its standard input is a pipe that only the
starter holds open: however the starter ends, SIGKILL too, the pipe closes and the server, 3 GB or a GPU's whole memory, ends too.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading
import time
from typing import Final

from relevance_core.processes import collect_rarely

STOP_SECONDS: Final = 30.0
_STARTER: Final = 0  # standard input


def end_with_starter() -> None:
    """Waits until the starter is gone, then asks this process to end, and kills its group when it does not."""
    while os.read(_STARTER, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.killpg(0, signal.SIGKILL)


# Also in the engine's processes, which import this module anew.
collect_rarely()

if __name__ == "__main__":
    threading.Thread(target=end_with_starter, daemon=True).start()
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
