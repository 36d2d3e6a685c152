# C types of net.deadlines.

import cython


@cython.final
cdef class Deadline:
    cdef object _reached
    cdef object _timer
    cdef public double due
    cpdef int set(self, double due, double now) except -1
    cpdef int clear(self) except -1
    cpdef int _ring(self) except -1
