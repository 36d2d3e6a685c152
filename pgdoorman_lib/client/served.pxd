# C types of client.served.

import cython

from pgdoorman_lib.client.batch cimport Batch
from pgdoorman_lib.client.link cimport Link, Owner
from pgdoorman_lib.client.relay cimport Relay, relay_for
from pgdoorman_lib.metrics.counters cimport LinkStats
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.wire cimport consts


cdef class Served(Owner):
    cdef public Link link
    cdef public Batch batch
    cdef public Relay relay
    cdef public bint waiting

    @cython.final
    cdef int init_served(self, Stream client) except -1
    cpdef Relay at_work(self)
    @cython.final
    @cython.locals(relay=Relay)
    cdef int put_down(self) except -1
    @cython.final
    cdef bint idle(self) except -1
    @cython.final
    cdef bint resting(self) except -1
    cpdef bint cut_off(self) except -1
