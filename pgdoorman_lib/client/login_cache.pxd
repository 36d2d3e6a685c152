# C types of client.login_cache.


cdef class LoginCache:
    cdef dict _known
    cpdef tuple find(self, str host, bytes packet)
