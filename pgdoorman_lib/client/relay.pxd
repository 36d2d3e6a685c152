# C types of client.relay.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.responses cimport Responses
from pgdoorman_lib.metrics.counters cimport LinkStats
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.net.syscalls cimport copy
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire cimport consts, owed
from pgdoorman_lib.wire.framing cimport find_nul, frame_size
from pgdoorman_lib.wire.statements cimport Tally
from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.replies cimport Replies, owed_for
from pgdoorman_lib.wire.scan cimport Scanner

cdef Py_ssize_t _HIGH_WATER
cdef Py_ssize_t _INSPECT
cdef int _FAIRNESS
cdef Tally _remembered
cdef bytearray _ready_idle
cdef bytearray _flush
cdef bytearray _empty_and_ready


cdef class Relay(Responses):
    cdef public bytes check_query
    cdef public bint client_drop
    cdef public object fault_sqlstate
    cdef public bint terminated
    cdef public bint half_closed
    cdef public bint overdue
    cdef public int discarding
    cdef public bytes refusal_message

    cpdef int init_relay(self, Stream client, LinkStats stats) except -1
    cpdef int attach(self, Server server) except -1
    cpdef int detach(self) except -1
    @cython.locals(status=int, rounds=int)
    cpdef int step(self) except -1
    cpdef int own_answered(self) except -1
    cpdef int at_eof(self) except -1
    cpdef bint reads_on(self) except -1
    cpdef bint restore(self) except -1
    cpdef int examined(self) except -1
    @cython.locals(client=Stream, fills=int, status=int, n=Py_ssize_t)
    cpdef int pump_client(self) except -1
    @cython.final
    @cython.locals(client=Stream, size=Py_ssize_t, block=bytearray)
    cdef bint _make_room(self) except -1
    @cython.final
    @cython.locals(
        client=Stream, data=bytearray, pos=Py_ssize_t, end=Py_ssize_t, run=Py_ssize_t, status=int, avail=Py_ssize_t,
        size=Py_ssize_t, kind=int, replies=Replies, late=int, plain=Py_ssize_t, first=Py_ssize_t, told="long long",
        whole=bint,
    )
    cdef int _client_frames(self) except -1
    @cython.final
    @cython.locals(start=Py_ssize_t, stop=Py_ssize_t)
    cdef int _parse_text(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except -1
    @cython.final
    @cython.locals(replies=Replies)
    cdef bint _free(self) except -1
    @cython.final
    @cython.locals(size=Py_ssize_t, client=Stream, block=bytearray)
    cdef int _to_server(self, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.final
    @cython.locals(check=bytes, alone=bint, start=Py_ssize_t)
    cdef int _without_server(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, int kind) except -1
    @cython.final
    @cython.locals(size=Py_ssize_t)
    cdef bint _executes(self, bytearray data, Py_ssize_t pos, Py_ssize_t end) except -1
    cpdef bint refuses(self, bytearray data, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.final
    cdef int _discard(self, int kind) except -1
