# C types of net.stepper.


cdef class Stepper:
    cpdef int advance(self) except -1
