# C types of pool.probes.

import cython

from pgdoorman_lib.net.deadlines cimport Deadline


@cython.final
cdef class Probes:
    cdef public Py_ssize_t count
    cdef object _pool
    cdef dict _asked
    cdef Deadline _deadline
