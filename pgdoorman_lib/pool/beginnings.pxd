# C types of pool.beginnings.

from pgdoorman_lib.net.engine cimport Engine


cdef class Beginnings:
    cdef public object pool
    cdef public Engine engine
    cdef public set asking
    cdef public object base
    cdef public object reported
    cdef public double heard_at
    cdef public double began_at
    cdef public dict news
    cdef public dict reports
    cdef public object carried
    cpdef bint stale(self) except -1
