# C types of auth.entropy.

import cython

cdef Py_ssize_t PORTION


cdef class Entropy:
    cdef bytes _drawn
    cdef Py_ssize_t _used
    @cython.locals(start=Py_ssize_t, drawn="const unsigned char *")
    cpdef bytes take(self, Py_ssize_t size)


cdef Entropy _entropy
cpdef bytes random_bytes(Py_ssize_t size)
