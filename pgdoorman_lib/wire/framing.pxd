# C types of wire.framing.

import cython

cdef long _MAX_MESSAGE


@cython.locals(length=long)
cpdef Py_ssize_t frame_size(bytearray data, Py_ssize_t start, Py_ssize_t end) except -3
@cython.locals(high=long)
cpdef long int32(bytes data, Py_ssize_t at) except? -1
@cython.locals(position=Py_ssize_t)
cpdef Py_ssize_t find_nul(bytearray data, Py_ssize_t start, Py_ssize_t end) except -2
@cython.locals(length=Py_ssize_t)
cpdef int put_header(bytearray data, int kind, Py_ssize_t size) except -1
