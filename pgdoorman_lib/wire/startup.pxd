# C types of wire.startup.

import cython

from pgdoorman_lib.wire cimport consts


cdef class StartupMessage:
    cdef readonly object protocol
    cdef readonly dict parameters
    cdef readonly list unknown_options


@cython.locals(code=long)
cpdef parse_startup(bytes packet)


@cython.locals(words=list, last=Py_ssize_t, index=Py_ssize_t, word=bytes, name=str)
cdef _parse_parameters(long protocol, bytes packet)
