# C types of client.login_cache.

import cython

from pgdoorman_lib.auth.verify cimport Candidate


cdef class LoginCache:
    cdef dict _known
    cdef readonly dict _met
    @cython.locals(key=tuple, known=tuple, candidate=Candidate)
    cpdef tuple find(self, str host, bint tls, bytes packet)
