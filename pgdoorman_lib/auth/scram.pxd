# C types of auth.scram.

import cython

from pgdoorman_lib.auth.digests cimport Hmac, sha256, xor
from pgdoorman_lib.auth.entropy cimport random_bytes

cdef Py_ssize_t _SIZE
cdef int _C, _N, _P, _R, _EQUALS
cdef bytes _UNABLE, _UNASKED, _BOUND


cdef class ScramSecret:
    cdef readonly object iterations
    cdef readonly bytes salt
    cdef readonly bytes stored_key
    cdef readonly bytes server_key


cdef class ScramVerifier:
    cdef readonly bytes stored_key
    cdef readonly bytes shown
    cdef readonly Hmac client
    cdef readonly Hmac server


@cython.freelist(16)
cdef class ScramExchange:
    cdef ScramVerifier _verifier
    cdef bytes _end_point
    cdef bint _bound
    cdef bytes _server_nonce
    cdef bytes _binding
    cdef bytes _nonce
    cdef bytes _messages
    cdef readonly bytes server_final

    @cython.locals(parts=list, flag=bytes, bare=bytes, fields=list, count=Py_ssize_t, nonce=bytes, server_first=bytes, end_point=bytes, header=bytes)
    cpdef bytes first(self, bytes message, bint plus=*)
    @cython.final
    cdef int _check_flag(self, bytes flag, bint plus) except -1
    @cython.locals(fields=list, last=Py_ssize_t, encoded=bytes, proof=bytes, verifier=ScramVerifier, auth_message=bytes, client_key=bytes)
    cpdef bytes final(self, bytes message)


cdef bint _is(bytes field, int letter) except -1
@cython.locals(at=Py_ssize_t)
cdef bint _are_extensions(list fields, Py_ssize_t start, Py_ssize_t end) except -1
@cython.locals(byte="unsigned char")
cdef bint _is_printable(bytes nonce) except -1
