# C types of client.login.

import cython

from pgdoorman_lib.auth.verify cimport Candidate, authenticate, method_for
from pgdoorman_lib.client.login_cache cimport LoginCache
from pgdoorman_lib.wire.framing cimport int32
from pgdoorman_lib.wire.startup cimport StartupMessage, parse_startup


cdef class Accepted:
    cdef readonly str user
    cdef readonly str database
    cdef readonly dict parameters
    cdef readonly object protocol
    cdef readonly object admin
    cdef readonly object client_key
    cdef readonly str replication


@cython.locals(cache=LoginCache, known=tuple, candidate=Candidate)
cpdef login(object stream, object policy, object guest)
@cython.locals(length=long)
cpdef bytes read_startup_packet(object stream)
@cython.locals(packet=bytes, code=long)
cdef bytes _first_packet(object stream, object policy)
cdef _parse(bytes packet)
cdef _negotiate(object stream, StartupMessage request)
cdef bint _asks_for_more(StartupMessage request) except -1
cdef Candidate _pool_candidate(str user, str database, object policy, str rule)
cdef dict _settings(dict parameters)
cdef _choose(dict chosen, str name, str value)
