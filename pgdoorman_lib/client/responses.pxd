# C types of client.responses.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.prepared cimport PreparedStatements, suspicious
from pgdoorman_lib.metrics.counters cimport LinkStats, PoolStats
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.net.syscalls cimport copy
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.server.unanswered cimport Unanswered
from pgdoorman_lib.wire cimport consts, letters, owed
from pgdoorman_lib.wire.framing cimport find_nul, frame_size
from pgdoorman_lib.wire.effects cimport Described, QueryParse, Refused, Verification
from pgdoorman_lib.wire.prepared cimport ServerStatements
from pgdoorman_lib.wire.statements cimport Registry, Statement, Unnamed
from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.replies cimport Replies

cdef Py_ssize_t _HIGH_WATER
cdef Py_ssize_t _INSPECT
cdef int _FAIRNESS
cdef Py_ssize_t _NOTIFIER
cdef Py_ssize_t _COPY_MORE
cdef int _HAS_ALTERED
cdef int _HAS_ENABLED
cdef int _MAY_HAVE_ALTERED


cdef class Responses(PreparedStatements):
    cdef public LinkStats stats
    cdef public PoolStats pool_stats
    cdef public bint sync_parameters
    cdef public object told
    cdef public long process
    cdef public bint transparent
    cdef public int pins
    cdef public int forgotten
    cdef public Py_ssize_t client_left
    cdef public Py_ssize_t server_left
    cdef public bint server_drop
    cdef public bint log_parameters
    cdef public bytes refusal
    cdef public double query_started
    cdef public double xact_started

    cpdef int init_responses(self, Stream client, LinkStats stats) except -1
    @cython.final
    cdef int _names_done(self) except -1
    @cython.locals(srv=Stream, client=Stream, fills=int, status=int, n=Py_ssize_t)
    cpdef int pump_server(self) except -1
    @cython.final
    @cython.locals(
        srv=Stream, replies=Replies, data=bytearray, pos=Py_ssize_t, end=Py_ssize_t, run=Py_ssize_t, status=int,
        avail=Py_ssize_t, size=Py_ssize_t, kind=int, verdict=int, effect=Effect, instead=bytes,
        message=bytes,
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
    cdef bint _to_client(self, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.final
    @cython.locals(now=double, spent="long long", stats=PoolStats)
    cdef bint _ready(self, int tx) except -1
    @cython.final
    @cython.locals(first=int, third=int, told=int)
    cdef bint _command_complete(self, bytearray data, Py_ssize_t pos, Py_ssize_t size) except -1
    @cython.final
    cdef int _has_altered(self, bint active) except -1
    @cython.final
    @cython.locals(replies=Replies, simple=bint, unnamed=Unnamed)
    cdef void _without_rows(self, bytearray data, Py_ssize_t pos, Py_ssize_t size) except *
    @cython.final
    @cython.locals(server=Server, statement=Statement)
    cdef bint _tag(self, bytes tag) except -1
    @cython.final
    @cython.locals(server=Server, before=object)
    cdef void _parameter_status(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, int verdict) except *
    @cython.locals(server=Server)
    cpdef int _tell(self) except -1
    @cython.final
    @cython.locals(process=long)
    cdef int _notification(self, bytearray data, Py_ssize_t pos) except -1
    cpdef int refused(self) except -1
    cpdef parameter_changed(self, str name, str value)
    @cython.final
    cdef int _found(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except -1
    @cython.final
    cdef void _described(self, object effect, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except *
    @cython.final
    cdef bytes _instead(self, bytes message, Effect effect, int verdict)
    @cython.final
    cdef bytes _as_written(self, bytes message)
    @cython.final
    @cython.locals(begin=Py_ssize_t, end=Py_ssize_t)
    cdef void _another(self, int kind, bytearray data, Py_ssize_t pos, Py_ssize_t stop) except *
    @cython.final
    cdef object _text_of(self, long number)
    @cython.final
    cdef int _answered(self, long number) except -1
    cpdef bytes _client_name(self, bytes name)
    @cython.final
    cdef bint _holds(self, bytearray data, Py_ssize_t pos, Py_ssize_t size) except -1
    @cython.final
    @cython.locals(unanswered=Unanswered)
    cdef bint _nothing_ran(self, bytes message, Py_ssize_t passed) except -1
    @cython.final
    @cython.locals(unanswered=Unanswered, again=bint)
    cdef bint _sent_again(self, int tx) except -1
    cpdef bint reads_on(self) except -1
    @cython.final
    cdef int _error_response(self, bytearray data, Py_ssize_t pos, Py_ssize_t avail, int verdict) except -1
