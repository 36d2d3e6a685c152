# C types of wire.sqltext.

import cython


@cython.locals(found=int, position=Py_ssize_t, last=Py_ssize_t, c=int, b=int)
cpdef int scan(bytearray data, Py_ssize_t start, Py_ssize_t end) except -1
