"""An LDAP server of our own: it knows a few people, and answers as badly as it is told to.

It reads and writes BER itself, for what the pooler's packages get wrong both ways would go unseen.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

#: Result codes.
SUCCESS, SIZE_LIMIT, REFERRAL, NO_SUCH_OBJECT, INVALID, BUSY, UNWILLING = 0, 4, 10, 32, 49, 51, 53

INTEGER, OCTETS, ENUMERATED, SEQUENCE = 0x02, 0x04, 0x0A, 0x30
#: Operations (RFC 4511 section 4), and the parts of a filter.
BIND, UNBIND, SEARCH, EXTENDED = 0x60, 0x42, 0x63, 0x77
BOUND, ENTRY, DONE, REFERENCE, EXTENDED_RESPONSE = 0x61, 0x64, 0x65, 0x73, 0x78
AND, OR, NOT, EQUAL, PRESENT = 0xA0, 0xA1, 0xA2, 0xA3, 0x87
_REFERRALS = 0xA3

_WORDS = {AND: "&", OR: "|", NOT: "!"}


def tlv(tag: int, *contents: bytes) -> bytes:
    """A tag, the length and the contents."""
    content = b"".join(contents)
    size = len(content)
    length = bytes((size,)) if size < 0x80 else b"\x82" + size.to_bytes(2, "big")
    return bytes((tag,)) + length + content


def parts(content: bytes) -> list[tuple[int, bytes]]:
    """Tags and contents, one behind the other."""
    found = []
    while content:
        tag, size, at = content[0], content[1], 2
        if size >= 0x80:
            at = 2 + size - 0x80
            size = int.from_bytes(content[2:at], "big")
        found.append((tag, content[at : at + size]))
        content = content[at + size :]
    return found


def message(number: int, operation: bytes) -> bytes:
    return tlv(SEQUENCE, tlv(INTEGER, bytes((number,))), operation)


def result(number: int, tag: int, code: int, text: str = "", referral: str = "") -> bytes:
    """BOUND, DONE or EXTENDED_RESPONSE."""
    referrals = tlv(_REFERRALS, tlv(OCTETS, referral.encode())) if referral else b""
    words = (tlv(ENUMERATED, bytes((code,))), tlv(OCTETS), tlv(OCTETS, text.encode()), referrals)
    return message(number, tlv(tag, *words))


def entry(number: int, name: str) -> bytes:
    return message(number, tlv(ENTRY, tlv(OCTETS, name.encode()), tlv(SEQUENCE)))


def reference(number: int, url: str) -> bytes:
    return message(number, tlv(REFERENCE, tlv(OCTETS, url.encode())))


def filter_words(tag: int, content: bytes) -> str:
    """A filter as RFC 4515 writes it, but that nothing is escaped."""
    if tag in _WORDS:
        return f"({_WORDS[tag]}{''.join(filter_words(*part) for part in parts(content))})"
    if tag == EQUAL:
        (_, attribute), (_, value) = parts(content)
        return f"({attribute.decode()}={value.decode()})"
    return f"({content.decode()}=*)" if tag == PRESENT else f"({tag:#x})"


class LdapServer:
    """``people``: passwords by their names (DN); ``uids``: names by uid. ``asked`` has each request in words.

    ``answer`` may be set to answer itself: it is given the tag of the request and its number, and returns bytes, or None:
    it is answered as usual. Behind such bytes the connection is closed, unless they answer a search. Nothing is
    answered while ``gate`` is closed.
    """

    def __init__(self, context: ssl.SSLContext | None = None, *, at_once: bool = False) -> None:
        self.people: dict[str, str] = {}
        self.uids: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.answer: Callable[[int, int], bytes | None] | None = None
        self.gate = threading.Event()
        self.gate.set()
        self._context = context
        self._at_once = at_once
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._closing = False
        self._start(self._accept)

    def add(self, uid: str, name: str, password: str) -> None:
        self.people[name] = password
        self.uids.setdefault(uid, []).append(name)

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._sockets)

    def close(self) -> None:
        self._closing = True
        self.gate.set()
        with self._lock:
            sockets = [self._listener, *self._sockets]
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, function: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.append(sock)
            self._start(self._serve, sock)

    def _serve(self, accepted: socket.socket) -> None:
        sock = accepted
        try:
            if self._context is not None and self._at_once:
                sock = self._context.wrap_socket(accepted, server_side=True)
            while (data := self._read(sock)) is not None:
                ((_, content),) = parts(data)
                (_, number), (tag, body), *_ = parts(content)
                if not self._reply(sock, int.from_bytes(number, "big"), tag, body):
                    return
                if tag == EXTENDED and self._context is not None and self.answer is None:
                    sock = self._context.wrap_socket(sock, server_side=True)
        except (OSError, ssl.SSLError):
            pass
        finally:
            with self._lock:
                self._sockets.remove(accepted)
            sock.close()
            accepted.close()

    def _reply(self, sock: socket.socket, number: int, tag: int, body: bytes) -> bool:
        """Answer a request; whether there may be another."""
        self.asked.append(self._in_words(tag, body))
        self.gate.wait()
        answer = self.answer(tag, number) if self.answer is not None else None
        if answer is None:
            sock.sendall(self._answer(number, tag, body))
            return True
        sock.sendall(answer)
        return tag == SEARCH and bool(answer)

    def _read(self, sock: socket.socket) -> bytes | None:
        data = b""
        size = 2
        while len(data) < size:
            piece = sock.recv(size - len(data))
            if not piece:
                return None
            data += piece
            if len(data) >= 2:
                size = 2 + data[1]
                if data[1] > 0x80:
                    width = data[1] - 0x80
                    size = 2 + width + (int.from_bytes(data[2 : 2 + width], "big") if len(data) >= 2 + width else 0)
        return data

    @staticmethod
    def _in_words(tag: int, body: bytes) -> str:
        if tag == BIND:
            return f"bind {parts(body)[1][1].decode()}"
        if tag == SEARCH:
            (_, base), (_, scope), *_, wanted, _ = parts(body)
            return f"search {base.decode()} {scope[0]} {filter_words(*wanted)}"
        return {UNBIND: "unbind", EXTENDED: "extended"}[tag]

    def _answer(self, number: int, tag: int, body: bytes) -> bytes:
        if tag == BIND:
            name, password = (content.decode() for _, content in parts(body)[1:])
            # As servers do: who names no password is nobody, and welcome.
            right = not password or self.people.get(name) == password
            return result(number, BOUND, SUCCESS if right else INVALID)
        if tag == SEARCH:
            found = self._found(*parts(body)[-2])
            return b"".join(entry(number, name) for name in found) + result(number, DONE, SUCCESS)
        if tag == EXTENDED:
            return result(number, EXTENDED_RESPONSE, SUCCESS if self._context is not None else UNWILLING)
        return b""

    def _found(self, tag: int, content: bytes) -> list[str]:
        if tag == PRESENT:
            return [name for names in self.uids.values() for name in names]
        if tag == AND:
            first, *others = [self._found(*part) for part in parts(content)]
            return [name for name in first if all(name in other for other in others)]
        if tag != EQUAL:
            return []
        (_, attribute), (_, value) = parts(content)
        return self.uids.get(value.decode(), []) if attribute in (b"uid", b"mail") else []
