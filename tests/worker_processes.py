"""The worker processes of a pooler of several, and which of them has a client."""

from __future__ import annotations

import socket
from typing import Any

import psutil
import psycopg
from fix_doorman import Doorman
from wire_client import WireClient


def serving(doorman: Doorman) -> list[psutil.Process]:
    """Its workers, in the order in which they were forked."""
    nurseries = psutil.Process(doorman.pid).children()
    return sorted((worker for nursery in nurseries for worker in nursery.children()), key=lambda worker: worker.pid)


def crowd_of(doorman: Doorman, worker: psutil.Process) -> set[int]:
    """The ports that a worker's clients come from."""
    connections = worker.net_connections("tcp")
    return {one.raddr.port for one in connections if one.laddr.port == doorman.port and one.raddr}


def worker_of(doorman: Doorman, client: psycopg.Connection[Any] | WireClient) -> psutil.Process:
    """The worker at the other end of a client's connection."""
    if isinstance(client, WireClient):
        port = client.socket.getsockname()[1]
    else:
        with socket.socket(fileno=client.pgconn.socket) as borrowed:
            port = borrowed.getsockname()[1]
            borrowed.detach()
    (found,) = (worker for worker in serving(doorman) if port in crowd_of(doorman, worker))
    return found
