# C types of client.login.

import cython

from pgdoorman_lib.auth.verify cimport Candidate, Proof, advance, authenticate, method_for, proof_by
from pgdoorman_lib.client.encryption cimport first_packet
from pgdoorman_lib.client.login_cache cimport LoginCache
from pgdoorman_lib.net.pollable cimport Pollable
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.net.syscalls cimport cut
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.framing cimport int32
from pgdoorman_lib.wire.startup cimport StartupMessage, parse_startup


cdef int _MAX_POLLED
cdef int NOTHING


cdef class Accepted:
    cdef readonly str user
    cdef readonly str database
    cdef readonly tuple parameters
    cdef readonly object protocol
    cdef readonly object admin
    cdef readonly object credentials
    cdef readonly str replication
    cdef readonly str secret


cdef class Guest(Pollable):
    cpdef asks(self, str user, str database)
    cpdef admit(self, bint console)


cdef class Familiar:
    cdef readonly Accepted accepted
    cdef readonly Proof proof


@cython.locals(cache=LoginCache, known=tuple, candidate=Candidate, method=str, accepted=Accepted, packet=bytes, tls=bint)
cpdef login(Stream stream, object policy, Guest guest)
@cython.locals(block=bytearray, cache=LoginCache, end=Py_ssize_t, known=tuple)
cpdef Familiar recognise(Stream stream, object policy, Guest guest)
@cython.locals(proof=Proof, whole=int)
cpdef bint proceed(Stream stream, Familiar familiar) except -1
@cython.locals(size=Py_ssize_t, length=long, received=Py_ssize_t)
cdef int _is_whole(Stream stream, int lead) except -2
@cython.locals(block=bytearray, at=Py_ssize_t)
cdef long _length(Stream stream, int lead) except? -1
@cython.locals(proof=Proof, accepted=Accepted)
cpdef Accepted finish(Stream stream, Familiar familiar)
@cython.locals(accepted=Accepted, proof=Proof)
cdef Familiar _begin_known(Stream stream, object policy, Guest guest, tuple known)
cdef _parse(bytes packet)
cdef _negotiate(Stream stream, StartupMessage request)
cdef Accepted _proven(Accepted accepted, bytes client_key)
cdef bint _asks_for_more(StartupMessage request) except -1
cdef Candidate _pool_candidate(str user, str database, object policy, object demand)
cdef tuple _settings(dict parameters)
cdef _choose(dict chosen, str name, str value)
