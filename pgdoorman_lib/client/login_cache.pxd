# C types of client.login_cache.


cdef class LoginCache:
    cdef dict _known
    cdef readonly dict _met
    cpdef tuple find(self, str host, bytes packet)
