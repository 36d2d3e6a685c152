# C types of client.registry.

from pgdoorman_lib.client.session cimport Session


cdef class Clients:
    cdef dict _sessions
    cdef object _ids

    cpdef add(self, Session session)
    cpdef remove(self, Session session)
    cpdef tuple new_key(self, long protocol)
