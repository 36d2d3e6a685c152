# C types of client.login.

import cython

from pgdoorman_lib.auth.verify cimport Candidate, authenticate, method_for
from pgdoorman_lib.client.login_cache cimport LoginCache
from pgdoorman_lib.net.pollable cimport Pollable
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.framing cimport int32
from pgdoorman_lib.wire.startup cimport StartupMessage, parse_startup


cdef class Accepted:
    cdef readonly str user
    cdef readonly str database
    cdef readonly tuple parameters
    cdef readonly object protocol
    cdef readonly object admin
    cdef readonly object client_key
    cdef readonly str replication


cdef class Guest(Pollable):
    cpdef asks(self, str user, str database)
    cpdef admit(self, bint console)


@cython.locals(cache=LoginCache, known=tuple, candidate=Candidate, method=str, accepted=Accepted, packet=bytes, tls=bint)
cpdef login(Stream stream, object policy, Guest guest)
@cython.locals(length=long, word=bytes)
cpdef bytes read_startup_packet(Stream stream)
@cython.locals(packet=bytes, code=long)
cdef bytes _first_packet(Stream stream, object policy)
cdef _parse(bytes packet)
cdef _negotiate(Stream stream, StartupMessage request)
cdef Accepted _proven(Accepted accepted, bytes client_key)
cdef bint _asks_for_more(StartupMessage request) except -1
cdef Candidate _pool_candidate(str user, str database, object policy, str rule)
cdef tuple _settings(dict parameters)
cdef _choose(dict chosen, str name, str value)
