"""The numbers of TLS 1.3 (RFC 8446): what records and alerts are called, and how large things may be.

``tls_terms.pxd`` has the same numbers for compiled modules, which read them as C constants.
"""

from __future__ import annotations

# ContentType (section 5.1) and HandshakeType (section 4).
ALERT = 21
HANDSHAKE = 22
APPLICATION_DATA = 23
NEW_SESSION_TICKET = 4
KEY_UPDATE = 24

# AlertLevel and AlertDescription (section 6).
WARNING = 1
FATAL = 2
CLOSE_NOTIFY = 0
UNEXPECTED_MESSAGE = 10
BAD_RECORD_MAC = 20
RECORD_OVERFLOW = 22
ILLEGAL_PARAMETER = 47
DECODE_ERROR = 50
USER_CANCELED = 90

LEGACY_VERSION = 0x0303
HEADER_SIZE = 5
TAG_SIZE = 16
#: What a record has behind its header beside its content: the type, and the tag (section 5.2).
OVERHEAD = 17
#: Sections 5.1 and 5.2: bytes of content, and of what stands behind a header.
MAX_CONTENT = 16384
MAX_BODY = 16640
#: A handshake message's type and length.
MESSAGE_HEADER = 4
