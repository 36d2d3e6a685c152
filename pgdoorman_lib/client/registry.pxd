# C types of client.registry.

import cython

from pgdoorman_lib.auth.entropy cimport random_bytes

cdef long _LAST
cdef int SECRET_3_0
cdef int SECRET_3_2
cdef long PROTOCOL_3_2


cdef class Clients:
    cdef dict _sessions
    cdef long _last
    cdef dict _by_database

    cpdef int go_on_behind(self, long number) except -1
    cpdef add(self, object session)
    @cython.locals(left=int)
    cpdef remove(self, object session)
    cpdef int count_of(self, str database) except -1
    @cython.locals(number=long)
    cpdef tuple new_key(self, long protocol)
