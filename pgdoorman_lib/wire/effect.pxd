# C types of wire.effect.


cdef class Effect:
    cpdef int done(self) except -1
    cpdef int undone(self, int failed) except -1
    cpdef int renew(self, object books) except -1
