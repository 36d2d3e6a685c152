# C types of client.encryption.

import cython

from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.framing cimport int32
from pgdoorman_lib.wire.startup cimport parse_startup

cdef int HANDSHAKE


@cython.locals(packet=bytes, code=long)
cpdef bytes first_packet(Stream stream, object policy)
@cython.locals(length=long, word=bytes)
cpdef bytes read_startup_packet(Stream stream)
cdef bint _answer_tls(Stream stream, object policy) except -1
