# C types of pool.registry.

import cython

from pgdoorman_lib.pool.pool cimport Pool


cdef class Pools:
    cdef object _make
    cdef dict _pools
    cdef set _leaving
    cdef object _templates
    cdef object _named
    cdef dict _unused
    cdef dict _own
    cdef object _looked_up
    cdef object _wanted
    cdef public object made
    cdef public object dropped
    cdef public object orders
    @cython.locals(pool=Pool)
    cpdef Pool find(self, str database, str user)
