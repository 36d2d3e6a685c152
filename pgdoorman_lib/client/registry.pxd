# C types of client.registry.


cdef class Clients:
    cdef dict _sessions
    cdef object _ids

    cpdef add(self, object session)
    cpdef remove(self, object session)
    cpdef tuple new_key(self, long protocol)
