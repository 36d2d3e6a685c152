# C types of client.errands.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.relay cimport Relay
from pgdoorman_lib.metrics.counters cimport LinkStats
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire cimport consts


cdef class Errands(Relay):
    cdef public object base

    cpdef int init_errands(self, Stream client, LinkStats stats) except -1
    cpdef int own_answered(self) except -1
    cpdef void _rebase(self, object base) except *
    @cython.locals(server=Server)
    cpdef void _apply(self) except *
    @cython.locals(server=Server)
    cpdef int _ask_server(self, str sql) except -1
    @cython.locals(errand=str)
    cpdef int refused(self) except -1
    @cython.locals(server=Server)
    cpdef int _calm(self) except -1
