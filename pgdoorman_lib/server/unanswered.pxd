# C types of server.unanswered.

import cython

from pgdoorman_lib.net.syscalls cimport copy

cdef Py_ssize_t MAX_KEPT


@cython.final
cdef class Unanswered:
    cdef public bytearray data
    cdef public Py_ssize_t size
    cdef public long long mark
    cdef public long long tried

    @cython.locals(size=Py_ssize_t)
    cpdef int keep(self, bytearray source, Py_ssize_t start, Py_ssize_t stop, long long mark) except -1
    cpdef int forget(self) except -1
