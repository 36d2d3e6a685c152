# C types of pool.probes.

import cython


@cython.final
cdef class Probes:
    cdef public Py_ssize_t count
    cdef object _pool
    cdef dict _timers
