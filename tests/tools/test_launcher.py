"""Where the demo's Airflow listens."""

from __future__ import annotations

import socket

import pytest

from relevance_core.machine import free_port
from relevance_core.tools.demo.launcher import ui_port


def test_a_port_in_use_is_replaced_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A free port is taken as it is; in place of a port in use the UI takes another, and the log names both; 0 takes any."""
    caplog.set_level("INFO", "relevance_core")
    wanted = free_port()
    assert (ui_port(wanted), caplog.messages) == (wanted, [])
    with socket.create_server(("127.0.0.1", wanted)):
        found = ui_port(wanted)
    assert found != wanted
    assert caplog.messages == [f"port {wanted} is in use; the UI takes {found}"]
    assert ui_port(0) > 0
