# C types of client.logins.

import cython

from pgdoorman_lib.net.deadlines cimport Deadline
from pgdoorman_lib.net.syscalls cimport clock


cdef class Logins:
    cdef object _limit
    cdef dict _began
    cdef dict _from
    cdef dict _crowd
    cdef public long most
    cdef public long most_per_address
    cdef public str exceeded
    cdef Deadline _deadline

    @cython.locals(now=double, limit=double, same=dict)
    cpdef bint begin(self, object who, str address) except -1
    cpdef end(self, object who, str address)
    cpdef bint move(self, object who, str before, str address) except -1
    @cython.locals(same=dict)
    cpdef surplus(self, str address, bint full)
    @cython.locals(same=dict)
    cdef dict _add(self, object who, str address)
    @cython.locals(same=dict)
    cdef _take(self, object who, str address)
    cpdef close(self)
    @cython.locals(now=double, limit=double, first=double, began=double)
    cpdef _expire(self)
