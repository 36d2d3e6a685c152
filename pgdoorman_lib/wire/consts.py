"""The protocol's literals: message types, version and request codes, limits (PostgreSQL docs, "Message Formats").

``consts.pxd`` has the same numbers for compiled modules, which read them as C constants.
"""

from __future__ import annotations

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
CANCEL_REQUEST = 80877102
SSL_REQUEST = 80877103
GSSENC_REQUEST = 80877104

#: PostgreSQL's MAX_STARTUP_PACKET_LENGTH: the whole packet, its length word included.
MAX_STARTUP_PACKET = 10000
#: PostgreSQL's PQ_LARGE_MESSAGE_LIMIT (1 GB - 1): the largest length word any message may carry.
MAX_MESSAGE = 0x3FFFFFFF

# Frontend messages.
BIND = 0x42  # 'B'
CLOSE = 0x43  # 'C'
DESCRIBE = 0x44  # 'D'
EXECUTE = 0x45  # 'E'
FUNCTION_CALL = 0x46  # 'F'
FLUSH = 0x48  # 'H'
PARSE = 0x50  # 'P'
QUERY = 0x51  # 'Q'
SYNC = 0x53  # 'S'
TERMINATE = 0x58  # 'X'
PASSWORD = 0x70  # 'p': PasswordMessage, SASLInitialResponse, SASLResponse

# What Describe and Close are about.
STATEMENT = 0x53  # 'S'
PORTAL = 0x50  # 'P'

# Both directions.
COPY_DATA = 0x64  # 'd'
COPY_DONE = 0x63  # 'c'
COPY_FAIL = 0x66  # 'f' (frontend only)

# Backend messages.
PARSE_COMPLETE = 0x31  # '1'
BIND_COMPLETE = 0x32  # '2'
CLOSE_COMPLETE = 0x33  # '3'
NOTIFICATION_RESPONSE = 0x41  # 'A'
COMMAND_COMPLETE = 0x43  # 'C'
DATA_ROW = 0x44  # 'D'
ERROR_RESPONSE = 0x45  # 'E'
COPY_IN_RESPONSE = 0x47  # 'G'
COPY_OUT_RESPONSE = 0x48  # 'H'
EMPTY_QUERY_RESPONSE = 0x49  # 'I'
BACKEND_KEY_DATA = 0x4B  # 'K'
NOTICE_RESPONSE = 0x4E  # 'N'
AUTHENTICATION = 0x52  # 'R'
PARAMETER_STATUS = 0x53  # 'S'
ROW_DESCRIPTION = 0x54  # 'T'
FUNCTION_CALL_RESPONSE = 0x56  # 'V'
COPY_BOTH_RESPONSE = 0x57  # 'W'
READY_FOR_QUERY = 0x5A  # 'Z'
NO_DATA = 0x6E  # 'n'
PORTAL_SUSPENDED = 0x73  # 's'
PARAMETER_DESCRIPTION = 0x74  # 't'
NEGOTIATE_PROTOCOL_VERSION = 0x76  # 'v'

# Authentication request codes (the int32 behind 'R').
AUTH_OK = 0
AUTH_CLEARTEXT = 3
AUTH_MD5 = 5
AUTH_SASL = 10
AUTH_SASL_CONTINUE = 11
AUTH_SASL_FINAL = 12

# Transaction status in ReadyForQuery.
TX_IDLE = 0x49  # 'I'
TX_BLOCK = 0x54  # 'T'
TX_FAILED = 0x45  # 'E'

#: Process ids told to clients are their numbers from here on: above every process of Linux (2^22 at most), so that none
#: is taken for a backend.
PROCESS_BASE = 1 << 22
