# C types of wire.scan.

import cython


cdef bytes _PIVOTS
cdef int _SEMICOLON
cdef Py_ssize_t _longest

@cython.locals(found=int, position=Py_ssize_t, last=Py_ssize_t, a=int, b=int, c=int, pivots="const unsigned char *", text="const unsigned char *")
cpdef int scan(bytearray data, Py_ssize_t start, Py_ssize_t end) except -1
@cython.locals(position=Py_ssize_t, a=int, b=int, c=int, text="const unsigned char *")
cpdef int beginning(bytearray data, Py_ssize_t start, Py_ssize_t end) except -1
@cython.locals(position=Py_ssize_t, depth=Py_ssize_t, c=int, after=int, text="const unsigned char *")
cpdef Py_ssize_t behind_comments(bytearray data, Py_ssize_t start, Py_ssize_t end) except -1
