# C types of net.epoll.

import cython

from pgdoorman_lib.net.engine cimport Channel, Engine
from pgdoorman_lib.net.syscalls cimport Epoll, clock


cdef int POLLS_PER_TURN
cdef int FEW_EVENTS
cdef double CLOSE_SECONDS


cdef class EpollEngine(Engine):
    cdef public Epoll epoll
    cdef public list channels
    cdef public list news
    cdef public object watcher
    @cython.locals(count=int, index=int, fd=int, foreign=bint, polls=int, wait=double, before=double, channel=Channel)
    cpdef int collect(self) except -1
    cpdef int fetch(self) except -1
    cpdef int register(self, Channel channel) except -1
    cpdef int unregister(self, Channel channel) except -1
    cpdef int rearm(self, Channel channel) except -1
    cpdef int want_write(self, Channel channel, int wanted) except -1
