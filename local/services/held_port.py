"""A port that stays one server's own while the server is down, so that it can come back on it.

Between a stop and a start any other process may be given a port that is free. A socket that is
bound to it, and never listens, keeps it: connections are refused as they should be, and a server
that sets `SO_REUSEADDR`, as Python's and Node's do, can listen beside it.
"""

import os
import socket
import sys
import weakref


class HeldPort:
    """A port of 127.0.0.1, held as long as this object lives.

    Only Linux lets two sockets be bound to one port in this way. Elsewhere `number` is 0, which
    gives a server any free port, and the one that it then has is not held.
    """

    def __init__(self) -> None:
        self.number = 0
        if sys.platform != "linux":
            return
        with socket.socket() as bound:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(("127.0.0.1", 0))
            self.number = int(bound.getsockname()[1])
            weakref.finalize(self, os.close, bound.detach())
