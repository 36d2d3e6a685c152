# C types of net.traffic.

import cython

from pgdoorman_lib.net cimport tls_terms
from pgdoorman_lib.net.aead cimport Aead


@cython.final
cdef class Direction:
    cdef public object suite
    cdef public bytes secret
    cdef public unsigned long long sequence
    cdef public unsigned long long limit
    cdef public int kind
    cdef Aead _aead
    @cython.final
    cdef Aead _cipher(self)
    cpdef int update(self) except -1
    @cython.locals(end=Py_ssize_t)
    cpdef Py_ssize_t seal(
        self, int kind, bytearray data, Py_ssize_t start, Py_ssize_t size, bytearray out, Py_ssize_t at
    ) except -1
    @cython.locals(kind=int, size=Py_ssize_t)
    cpdef Py_ssize_t body_size(self, bytearray data, Py_ssize_t at) except -1
    @cython.locals(size=Py_ssize_t, last=Py_ssize_t)
    cpdef Py_ssize_t open(self, bytearray record, Py_ssize_t at, Py_ssize_t body, bytearray out, Py_ssize_t to) except -1
