# C types of net.pollable.


cdef class Pollable:
    cpdef int poll(self) except -1
    cpdef bint run_blocks(self, int event) except -1
