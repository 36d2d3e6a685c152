# C types of net.aead.

cimport cython


@cython.final
cdef class Aead:
    cdef void *context
    cdef unsigned char iv[12]
    cdef object other
    cdef int _begin(self, unsigned long long number, int sealing) except -1
    cpdef Py_ssize_t seal(
        self, unsigned long long number, int kind, bytearray data, Py_ssize_t start, Py_ssize_t size, bytearray out,
        Py_ssize_t at
    ) except -1
    cpdef Py_ssize_t open(
        self, unsigned long long number, bytearray record, Py_ssize_t at, Py_ssize_t body, bytearray out, Py_ssize_t to
    ) except -2
