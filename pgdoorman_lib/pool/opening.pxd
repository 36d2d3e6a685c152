# C types of pool.opening.

import cython

from pgdoorman_lib.net.deadlines cimport Deadline
from pgdoorman_lib.net.syscalls cimport clock


@cython.final
cdef class Opening:
    cdef public object pool
    cdef public Py_ssize_t count
    cdef public int generation
    cdef public double renewed_at
    cdef public Py_ssize_t parallel
    cdef public long long made
    cdef public object last_error
    cdef public int failures
    cdef public tuple reported
    cdef public double report_at
    cdef public double retry_at
    cdef public double backoff
    cdef public Deadline retry
