# C types of client.familiar.

import cython

from pgdoorman_lib.auth.verify cimport Candidate

cdef Py_ssize_t _MAX_PACKET


cdef class Known:
    cdef public Candidate candidate
    cdef public object accepted
    cdef public tuple asked
    cdef public object pool


cdef class Familiar:
    cdef dict _known
    @cython.locals(size=Py_ssize_t, text="const unsigned char *", packet=bytes)
    cpdef Known find(self, str host, bytearray data, Py_ssize_t start, Py_ssize_t end)
