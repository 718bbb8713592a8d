"""Free loopback ports for the processes of tests.

Below those that the system gives to connections, and others for each of three workers of pytest, so that nobody else
takes a port between its choice and its use.
"""

import itertools
import os
import random
import socket
from contextlib import suppress

_FIRST, _OF_EACH_WORKER, _WORKERS = 20_000, 4_000, 3
# Metrics ports of the local stack lie so far above the others, still among those of the worker.
_IN_TURN = _OF_EACH_WORKER - 1_000

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
# Two runs at a time begin at different places.
_turns = itertools.count(random.SystemRandom().randrange(_IN_TURN))


def free_port() -> int:
    """A loopback port that nothing listens on; another each time, and the next ones are free, too."""
    while True:
        port = _FIRST + _worker * _OF_EACH_WORKER + next(_turns) % _IN_TURN
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
