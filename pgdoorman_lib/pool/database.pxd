# C types of pool.database.

import cython

from pgdoorman_lib.pool.row cimport Row


@cython.final
cdef class Database:
    cdef public object address
    cdef public object catalogue
    cdef public object registries
    cdef public Row row
    cdef Py_ssize_t _texts
    cdef Py_ssize_t _objects
    cdef object __weakref__

    @cython.locals(texts=Py_ssize_t, objects=Py_ssize_t)
    cpdef int catch_up(self) except -1
