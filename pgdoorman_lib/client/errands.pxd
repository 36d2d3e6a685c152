# C types of client.errands.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire cimport consts


@cython.final
cdef class Errands:
    cdef public Turn turn
    cdef public bytes refusal

    @cython.final
    cdef int forget(self) except -1
    cpdef int own_answered(self) except -1
    cpdef void _rebase(self, object base) except *
    @cython.locals(server=Server)
    cpdef void apply(self) except *
    @cython.locals(server=Server)
    cpdef int ask_server(self, str sql) except -1
    @cython.locals(errand=str)
    cpdef int refused(self) except -1
    @cython.locals(server=Server)
    cpdef int calm(self) except -1
