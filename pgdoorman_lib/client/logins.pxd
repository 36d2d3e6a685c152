# C types of client.logins.

import cython

from pgdoorman_lib.net.syscalls cimport clock


cdef class Logins:
    cdef object _limit
    cdef dict _began
    cdef object _timer
    cdef double _due

    @cython.locals(now=double, limit=double)
    cpdef begin(self, object who)
    cpdef end(self, object who)
    cpdef close(self)
    cpdef _arm(self, double due, double seconds)
    @cython.locals(now=double, limit=double, first=double, began=double)
    cpdef _expire(self)
