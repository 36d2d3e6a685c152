"""Counting sockets by state, from a /proc made by hand and from the real one."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from pgdoorman_lib.admin.sockets import NAMES, by_state, counts
from pgdoorman_lib.errors import UnsupportedFeature

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1920 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0 100 0 0 10 0
   1: 0100007F:1920 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 101 1 0 20 4 30 10 -1
   2: 0100007F:1920 0100007F:C002 01 00000000:00000000 00:00000000 00000000     0        0 999 1 0 20 4 30 10 -1
   3: 0100007F:1920 0100007F:C003 63 00000000:00000000 00:00000000 00000000     0        0 102 1 0 20 4 30 10 -1
"""
UNIX = """\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 200 /run/.s.PGSQL.6432
0000000000000000: 00000003 00000000 00000000 0001 03 201
0000000000000000: 00000003 00000000 00000000 0002 01 202 @grün
0000000000000000: 00000003 00000000 00000000 0005 03 203
0000000000000000: 00000003 00000000 00000000 0001 03 999
"""


def nonzero(found: dict[str, list[int]]) -> dict[str, int]:
    return {name: count for name, count in zip(NAMES, counts(found), strict=True) if count}


def make_proc(root: Path, inodes: range | list[int]) -> None:
    (root / "fd").mkdir()
    (root / "net").mkdir()
    for number, inode in enumerate(inodes):
        (root / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
    (root / "fd" / "5000").symlink_to("pipe:[100]")
    (root / "net" / "tcp").write_text(TCP)
    (root / "net" / "unix").write_bytes(UNIX.encode())


def test_own_sockets_by_state(tmp_path: Path) -> None:
    make_proc(tmp_path, [100, 101, 102, 200, 201, 202, 203, 300])
    assert nonzero(by_state(str(tmp_path))) == {
        "tcp_listen": 1,
        "tcp_established": 1,
        "unix_unconnected": 1,
        "unix_connected": 1,
        "unix_dgram": 1,
        "unix_seq_packet": 1,
        "unknown": 2,
    }


def test_other_systems_say_so(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeature):
        by_state(str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
def test_real_sockets() -> None:
    before = nonzero(by_state())
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        accepted, _ = server.accept()
        with accepted:
            after = nonzero(by_state())
    assert after["tcp_listen"] == before.get("tcp_listen", 0) + 1
    assert after["tcp_established"] == before.get("tcp_established", 0) + 2
    assert len(os.listdir("/proc/self/fd")) < 1000
