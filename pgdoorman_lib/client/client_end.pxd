# C types of client.client_end.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.net.deadlines cimport Deadline
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.net.syscalls cimport clock
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.framing cimport frame_size


@cython.final
cdef class ClientEnd:
    cdef public Turn turn
    cdef public Deadline deadline

    @cython.locals(client=Stream, said=int)
    cpdef bint gone(self) except -1
    @cython.final
    @cython.locals(client=Stream, data=bytearray, pos=Py_ssize_t, size=Py_ssize_t, lasting=int, whole=int)
    cdef int _has_said_all(self) except -1
    cpdef int at_eof(self) except -1
    @cython.final
    cdef int _close_half(self) except -1
    @cython.final
    cdef int wait_no_more(self) except -1
    @cython.final
    cpdef str parting(self, int event)
