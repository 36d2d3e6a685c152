# C types of net.watchers.

from pgdoorman_lib.net.engine cimport Channel, Engine


cdef class GeventEngine(Engine):
    cdef public dict watchers
    cpdef int collect(self) except -1
    cpdef int register(self, Channel channel) except -1
    cpdef int unregister(self, Channel channel) except -1
    cpdef int rearm(self, Channel channel) except -1
    cpdef int want_write(self, Channel channel, int wanted) except -1
