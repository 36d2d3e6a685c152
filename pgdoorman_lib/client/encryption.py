"""What comes before a client's startup packet: agreeing on encryption, which TLS may also begin with at once.

Rules:
1. Every read may switch greenlets.
2. TLS begins with an empty buffer: what came in clear behind the request was not said by whom TLS will vouch for
   (CVE-2021-23214 in PostgreSQL, CVE-2021-3935 in PgBouncer). Or with the connection itself: a record of TLS where the
   length of a startup packet would be.

PostgreSQL docs, "SSL Session Encryption"; the answers and texts are those of its backend_startup.c.
"""

from __future__ import annotations

import ssl

from pgdoorman_lib.abc import LoginPolicy
from pgdoorman_lib.errors import HandshakeFailed, ProtocolViolation
from pgdoorman_lib.net.stream import Stream
from pgdoorman_lib.net.tls import ALPN
from pgdoorman_lib.net.tls_terms import HANDSHAKE
from pgdoorman_lib.wire import consts
from pgdoorman_lib.wire.framing import int32
from pgdoorman_lib.wire.startup import not_a_length, parse_startup, unsupported_protocol


def first_packet(stream: Stream, policy: LoginPolicy) -> bytes:
    """Answer requests for encryption, each at most once, until the client says what it wants; the packet with that."""
    if stream.peek() == HANDSHAKE:
        _begin_tls(stream, policy)
    may_ask_tls = True
    may_ask_gss = True
    while True:
        packet = read_startup_packet(stream)
        code = int32(packet, 0)
        if code == consts.SSL_REQUEST:
            parse_startup(packet)
            if not may_ask_tls:
                raise unsupported_protocol(code)
            may_ask_tls = False
            if _answer_tls(stream, policy):
                may_ask_gss = False
        elif code == consts.GSSENC_REQUEST:
            parse_startup(packet)
            if not may_ask_gss:
                raise unsupported_protocol(code)
            may_ask_gss = False
            _refuse_buffered(stream, "GSSAPI encryption request")
            stream.write(b"N")
        else:
            return packet


def read_startup_packet(stream: Stream) -> bytes:
    """The next startup packet without its length word; ProtocolViolation for an impossible length; may switch."""
    word = stream.read_exact(4)
    length = int32(word, 0)
    if not 8 <= length <= consts.MAX_STARTUP_PACKET:
        raise not_a_length(word)
    return stream.read_exact(length - 4)


def _answer_tls(stream: Stream, policy: LoginPolicy) -> bool:
    """Answer an SSLRequest; whether TLS was begun."""
    # Looked at before the first byte of the answer, so that nothing is said after TLS that came before it.
    _refuse_buffered(stream, "SSL request")
    tls_context = policy.tls_context
    if tls_context is None or stream.is_unix or stream.tls is not None:
        # A unix socket is private already; PostgreSQL answers the same.
        stream.write(b"N")
        return False
    stream.write(b"S")
    _shake_hands(stream, policy, tls_context, False)
    return True


def _begin_tls(stream: Stream, policy: LoginPolicy) -> None:
    """TLS that the client begins with at once (``sslnegotiation=direct``).

    What is refused is closed without a word, as by PostgreSQL: an ErrorResponse would be no TLS.
    """
    tls_context = policy.tls_context
    if tls_context is None or stream.is_unix:
        raise HandshakeFailed("received direct SSL connection request, and TLS is not offered here")
    _shake_hands(stream, policy, tls_context, True)
    if stream.tls is None or stream.tls.selected_alpn_protocol() != ALPN:
        # It may be meant for anybody, as that of a browser which was led here.
        raise HandshakeFailed("received direct SSL connection request without ALPN protocol negotiation extension")


def _shake_hands(stream: Stream, policy: LoginPolicy, tls_context: ssl.SSLContext, begun: bool) -> None:
    """Do the handshake, which the client has ``begun`` or not, in its turn."""
    limit = policy.handshakes
    if limit is not None:
        if not begun:
            stream.peek()  # who says nothing takes nobody's turn
        begun = True
        limit.wait()
    try:
        stream.start_tls(tls_context, server_side=True, direct=begun)
    except ssl.SSLError as exc:
        # An alert has told the peer; an ErrorResponse in clear would be garbage to it.
        raise HandshakeFailed(f"could not accept SSL connection: {getattr(exc, 'reason', None) or exc}") from exc


def _refuse_buffered(stream: Stream, request: str) -> None:
    if stream.has_buffered():
        raise ProtocolViolation(
            f"received unencrypted data after {request}",
            detail="This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
        )
