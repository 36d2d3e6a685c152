# C types of client.login_cache.

import cython

from pgdoorman_lib.auth.verify cimport Candidate
from pgdoorman_lib.net.syscalls cimport cut

cdef Py_ssize_t _MAX_PACKET


cdef class KnownLogin:
    cdef public Candidate candidate
    cdef public bytes digits
    cdef public object accepted
    cdef public tuple asked
    cdef public object pool


cdef class LoginCache:
    cdef dict _known
    @cython.locals(size=Py_ssize_t, text="const unsigned char *")
    cpdef KnownLogin find(self, str host, bytearray data, Py_ssize_t start, Py_ssize_t end)
