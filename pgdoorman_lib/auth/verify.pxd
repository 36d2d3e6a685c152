# C types of auth.verify.

import cython

from pgdoorman_lib.auth.md5 cimport Md5Challenge, hash_password, is_hash
from pgdoorman_lib.auth.scram cimport ScramExchange, ScramVerifier
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.framing cimport int32
from pgdoorman_lib.wire.messages cimport authentication_sasl_continue, authentication_sasl_final

cdef bytes _MECHANISM
cdef bytes _SASL


cdef class Candidate:
    cdef readonly str user
    cdef readonly str secret
    cdef readonly object refusal
    cdef str _hash
    cdef ScramVerifier _verifier
    cpdef str stored_hash(self)
    cpdef ScramVerifier verifier(self, bytes key)


@cython.locals(challenge=Md5Challenge)
cpdef authenticate(Stream stream, Candidate candidate, str method, bytes key)
cpdef str method_for(str secret, str rule)
cdef _check_md5(Stream stream, Candidate candidate, Md5Challenge challenge)
@cython.locals(kind=int)
cdef bytes _read(Stream stream, str what, int limit)
@cython.locals(body=bytes, size=Py_ssize_t, text="const unsigned char *", password=bytes)
cdef bytes _read_password(Stream stream)
@cython.locals(exchange=ScramExchange, first=bytes, client_key=bytes)
cdef bytes _scram(Stream stream, Candidate candidate, bytes key)
@cython.locals(end=Py_ssize_t, begin=Py_ssize_t, size=long)
cdef bytes _initial_response(bytes body)
