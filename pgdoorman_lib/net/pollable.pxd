# C types of net.pollable.


cdef class Pollable:
    cpdef int poll(self) except -1
