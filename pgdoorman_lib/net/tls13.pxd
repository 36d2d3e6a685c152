# C types of net.tls13.

import cython

from pgdoorman_lib.net cimport tls_terms
from pgdoorman_lib.net.syscalls cimport copy
from pgdoorman_lib.net.traffic cimport Direction

cdef int _MAX_VAIN


@cython.final
cdef class Tls13:
    cdef object _cipher
    cdef object _alpn
    cdef public Direction read
    cdef public Direction write
    cdef public bint update_due
    cdef public bytes unread
    cdef public bytearray raw
    cdef public Py_ssize_t raw_start
    cdef public Py_ssize_t raw_end
    cdef public Py_ssize_t content_start
    cdef public Py_ssize_t content_end
    cdef bytearray _messages
    cdef public int vain
    cdef public bint over
    cdef public str error
    cdef public int alert
    cdef public bint closed
    @cython.locals(room=Py_ssize_t, size=Py_ssize_t)
    cpdef Py_ssize_t take(self, bytearray block, Py_ssize_t filled) except -2
    @cython.final
    cdef bytearray _raw(self)
    @cython.final
    @cython.locals(
        start=Py_ssize_t, there=Py_ssize_t, body=Py_ssize_t, raw=bytearray, out=bytearray, to=Py_ssize_t, size=Py_ssize_t,
        kind=int
    )
    cdef Py_ssize_t _open_next(self, bytearray block, Py_ssize_t filled) except -2
    @cython.locals(there=Py_ssize_t, raw=bytearray, at=Py_ssize_t, body=Py_ssize_t)
    cpdef bint has_more(self) except -1
    cdef void _handshake(self, bytes content) except *
    cdef int _alert(self, bytes content) except -1
    cdef int _break(self, str text, int alert) except -1
    cpdef Py_ssize_t seal(self, bytearray data, Py_ssize_t start, Py_ssize_t size, bytearray out, Py_ssize_t at) except -1
    cpdef Py_ssize_t seal_alert(self, bytearray out, Py_ssize_t at) except -1
    cdef Py_ssize_t _seal_small(self, int kind, bytearray content, bytearray out, Py_ssize_t at) except -1
    cpdef int unwrap(self) except -1
