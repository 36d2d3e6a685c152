# C types of client.relay.

import cython

from pgdoorman_lib.client.statements cimport StatementDesk
from pgdoorman_lib.metrics.counters cimport LinkStats, PoolStats
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.net.syscalls cimport copy
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire.framing cimport find_nul, frame_size
from pgdoorman_lib.wire.prepared cimport Described, Refused, Registry, ServerStatements, Statement, Verification
from pgdoorman_lib.wire.replies cimport Effect, Replies
from pgdoorman_lib.wire.scan cimport scan

cdef int _QUERY
cdef int _FUNCTION
cdef int _SYNC
cdef int _PARSE
cdef int _BIND
cdef int _DESCRIBE
cdef int _EXECUTE
cdef int _CLOSE
cdef int _COPY_END
cdef Py_ssize_t _HIGH_WATER
cdef Py_ssize_t _INSPECT
cdef int _FAIRNESS
cdef Py_ssize_t _COPY_MORE
cdef bytearray _ready_idle
cdef bytearray _flush
cdef bytearray _empty_and_ready


cdef class Relay(StatementDesk):
    cdef public LinkStats stats
    cdef public PoolStats pool_stats
    cdef public bint sync_parameters
    cdef public bint transparent
    cdef public object startup
    cdef public int pins
    cdef public int examining
    cdef public list findings
    cdef public int forgotten
    cdef public bint was_reset
    cdef public bint announcing
    cdef public bytes check_query
    cdef public Py_ssize_t client_left
    cdef public bint client_drop
    cdef public Py_ssize_t server_left
    cdef public bint server_drop
    cdef public object fault_sqlstate
    cdef public bint log_parameters
    cdef public bint settling
    cdef public bint terminated
    cdef public int discarding
    cdef public bytes refusal_message
    cdef public bytes refusal
    cdef public double query_started
    cdef public double xact_started

    cpdef int init_relay(self, Stream client, LinkStats stats) except -1
    cpdef int attach(self, Server server) except -1
    cpdef int detach(self) except -1
    @cython.final
    cdef int _names_done(self) except -1
    @cython.locals(status=int, rounds=int)
    cpdef int step(self) except -1
    cpdef int restore(self) except -1
    cpdef int examined(self) except -1
    @cython.locals(client=Stream, fills=int, status=int, n=Py_ssize_t)
    cpdef int pump_client(self) except -1
    @cython.final
    @cython.locals(client=Stream, size=Py_ssize_t)
    cdef int _make_room(self) except -1
    @cython.final
    @cython.locals(
        client=Stream, data=bytearray, pos=Py_ssize_t, end=Py_ssize_t, run=Py_ssize_t, status=int, avail=Py_ssize_t,
        size=Py_ssize_t, kind=int, replies=Replies, marks=int, late=int, plain=Py_ssize_t,
    )
    cdef int _client_frames(self) except -1
    @cython.final
    @cython.locals(start=Py_ssize_t, stop=Py_ssize_t, marks=int, whole=bint)
    cdef int _parse_text(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except -1
    @cython.final
    @cython.locals(replies=Replies)
    cdef int _free(self) except -1
    @cython.final
    @cython.locals(size=Py_ssize_t, client=Stream, block=bytearray)
    cdef int _to_server(self, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.final
    @cython.locals(size=Py_ssize_t)
    cdef int _executes(self, bytearray data, Py_ssize_t pos, Py_ssize_t end) except -1
    cpdef int refuses(self, bytearray data, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.final
    cdef int _discard(self, int kind) except -1
    @cython.final
    @cython.locals(check=bytes, alone=bint, start=Py_ssize_t)
    cdef int _without_server(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, int kind) except -1
    @cython.locals(srv=Stream, client=Stream, fills=int, status=int, n=Py_ssize_t)
    cpdef int pump_server(self) except -1
    @cython.final
    @cython.locals(
        srv=Stream, replies=Replies, data=bytearray, pos=Py_ssize_t, end=Py_ssize_t, run=Py_ssize_t, status=int,
        avail=Py_ssize_t, size=Py_ssize_t, kind=int, verdict=int, effect=Effect,
    )
    cdef int _server_frames(self) except -1
    @cython.final
    cdef int _server_made(self, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.final
    cdef int _to_client_part(self, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.final
    @cython.locals(
        size=Py_ssize_t, srv=Stream, client=Stream, block=bytearray, fresh=bytearray, rest=Py_ssize_t
    )
    cdef int _to_client(self, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.final
    @cython.locals(now=double, spent="long long", stats=PoolStats)
    cdef int _ready(self, int tx) except -1
    @cython.final
    @cython.locals(first=int, third=int)
    cdef int _command_complete(self, bytearray data, Py_ssize_t pos, Py_ssize_t size) except -1
    @cython.final
    @cython.locals(server=Server)
    cdef int _tag(self, bytes tag) except -1
    @cython.final
    cdef int _found(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except -1
    @cython.final
    cdef int _described(self, object effect, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except -1
    @cython.final
    @cython.locals(server=Server)
    cdef int _parameter_status(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, int verdict) except -1
    cpdef parameter_changed(self, str name, str value)
    @cython.final
    cdef int _error_response(self, bytearray data, Py_ssize_t pos, Py_ssize_t avail, int verdict) except -1
