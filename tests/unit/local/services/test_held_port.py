"""A held port: its server can come and go, and nobody else gets it."""

import socket
import sys

import pytest

from local.services.held_port import HeldPort
from tests.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can hold a port")


def listen(port: int) -> socket.socket:
    """Listen as servers do."""
    return socket.create_server(("127.0.0.1", port), reuse_port=False)


def test_a_server_listens_on_it_again_and_again() -> None:
    """Connections are refused while its server is down, and accepted while it is up."""
    held = HeldPort()
    address = ("127.0.0.1", held.number)
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=PATIENCE)
        with listen(held.number), socket.create_connection(address, timeout=PATIENCE):
            pass


def test_nobody_else_is_given_it() -> None:
    """Another process that asks for just this port does not get it; two are never the same."""
    held = HeldPort()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", held.number))
    assert HeldPort().number != held.number
