# C types of pool.pins.

import cython

from pgdoorman_lib.pool.row cimport Row


@cython.final
cdef class Pins:
    cdef public Py_ssize_t limit
    cdef public Py_ssize_t own
    cdef public Row row

    cpdef Py_ssize_t taken(self) except -1
    cpdef bint has_room(self) except -1
    cpdef bint take(self) except -1
    cpdef int add(self) except -1
    cpdef int give_back(self) except -1
