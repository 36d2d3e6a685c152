"""The addresses of this machine's network interfaces, for pg_hba's ``samehost`` and ``samenet``.

Asked from the C library's getifaddrs (Linux, macOS, BSD): the standard library has no call for it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys

from pgdoorman_lib.errors import ConfigError

#: IP version (4 or 6), address and netmask as numbers.
Interface = tuple[int, int, int]


class _IfAddrs(ctypes.Structure):
    pass


# What follows the netmask is not looked at.
_IfAddrs._fields_ = [
    ("next", ctypes.POINTER(_IfAddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
]

#: Where the address stands in a sockaddr, and how many bytes it has.
_LAYOUT: dict[int, tuple[int, int, int]] = {socket.AF_INET: (4, 4, 4), socket.AF_INET6: (6, 8, 16)}


def local_interfaces() -> list[Interface]:
    """Every IPv4 and IPv6 address of this machine with its netmask, loopback included.

    ConfigError where the system can't tell: a rule that depends on it must not silently match nothing, or everything.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        getifaddrs, freeifaddrs = libc.getifaddrs, libc.freeifaddrs
    except (AttributeError, OSError, TypeError) as exc:
        raise ConfigError("samehost and samenet are not supported on this system") from exc
    getifaddrs.argtypes = [ctypes.POINTER(ctypes.POINTER(_IfAddrs))]
    freeifaddrs.argtypes = [ctypes.POINTER(_IfAddrs)]
    freeifaddrs.restype = None
    head = ctypes.POINTER(_IfAddrs)()
    if getifaddrs(ctypes.byref(head)) != 0:
        raise ConfigError(f"could not list network interfaces: {os.strerror(ctypes.get_errno())}")
    found = []
    try:
        entry = head
        while entry:
            item = entry.contents
            if item.address and item.netmask and (layout := _LAYOUT.get(_family(item.address))) is not None:
                version, start, size = layout
                found.append((version, _number(item.address, start, size), _number(item.netmask, start, size)))
            entry = item.next
    finally:
        freeifaddrs(head)
    return found


if sys.platform.startswith(("darwin", "freebsd", "openbsd", "netbsd", "dragonfly")):
    # A sockaddr begins with its length; a netmask may be cut short and lacks the zeros at its end.
    def _family(pointer: int) -> int:
        return ctypes.string_at(pointer, 2)[1]

    def _number(pointer: int, start: int, size: int) -> int:
        length = ctypes.string_at(pointer, 1)[0]
        return int.from_bytes(ctypes.string_at(pointer, length)[start : start + size].ljust(size, b"\0"), "big")
else:

    def _family(pointer: int) -> int:
        return int.from_bytes(ctypes.string_at(pointer, 2), sys.byteorder)

    def _number(pointer: int, start: int, size: int) -> int:
        return int.from_bytes(ctypes.string_at(pointer + start, size), "big")
