# C types of client.registry.

import cython

from pgdoorman_lib.auth.entropy cimport random_bytes

cdef int SECRET_3_0
cdef int SECRET_3_2
cdef long PROTOCOL_3_2


cdef class Clients:
    cdef readonly dict _sessions
    cdef dict _by_database
    cdef dict _by_user
    cdef public long worker
    cdef long _workers
    cdef long _rest
    cdef public long peer
    cdef long _first
    cdef public long _space
    cdef public long _last
    cdef set _reserved
    cdef public object on_end

    cpdef int use_peer(self, long peer) except -1
    cpdef int go_on_behind(self, long last, long left) except -1
    @cython.locals(number=long)
    cpdef tuple owner_of(self, long process)
    cpdef add(self, object session)
    cpdef remove(self, object session)
    cpdef int count_of(self, str database) except -1
    cpdef int count_of_user(self, str user) except -1
    @cython.locals(number=long)
    cpdef tuple new_key(self, long protocol)
