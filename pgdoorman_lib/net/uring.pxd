# C types of net.uring.

import cython

from pgdoorman_lib.net.engine cimport Channel, Engine, EpollEngine, Line
from pgdoorman_lib.net.ring cimport Ring

cdef int _SUBMISSIONS


cdef class UringEngine(EpollEngine):
    cdef public Ring ring
    cdef public list batch
    cdef public int count
    @cython.locals(channel=Channel, news=Line, index=Py_ssize_t)
    cpdef int fetch(self) except -1
    @cython.locals(channel=Channel, index=int)
    cpdef int _receive_batch(self) except -1
    @cython.locals(channel=Channel, dirty=Line, index=Py_ssize_t)
    cpdef int flush(self) except -1
    @cython.locals(channel=Channel, index=int)
    cpdef int _send_batch(self) except -1
