# C types of net.uring.

import cython

from pgdoorman_lib.net.engine cimport Channel
from pgdoorman_lib.net.epoll cimport EpollEngine
from pgdoorman_lib.net.ring cimport Ring

cdef int SUBMISSIONS


cdef class UringEngine(EpollEngine):
    cdef public Ring ring
    cdef public list batch
    cdef public int count
    @cython.locals(channel=Channel, news=list)
    cpdef int fetch(self) except -1
    @cython.locals(channel=Channel, index=int)
    cdef int _receive_batch(self) except -1
    @cython.locals(channel=Channel)
    cdef int send_together(self) except -1
    @cython.locals(channel=Channel, index=int)
    cdef int _send_batch(self) except -1
