# C types of client.responses.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.errands cimport Errands
from pgdoorman_lib.client.error_responses cimport ErrorResponses
from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.client.prepared cimport PreparedStatements
from pgdoorman_lib.client.reports cimport Reports
from pgdoorman_lib.client.sqlprepare cimport SqlPrepare
from pgdoorman_lib.metrics.counters cimport PoolStats
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.net.syscalls cimport copy
from pgdoorman_lib.wire cimport consts, owed
from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.effects cimport Described, QueryParse, UnnamedEffect, Verification, first_unnamed
from pgdoorman_lib.wire.framing cimport frame_size
from pgdoorman_lib.wire.replies cimport Replies
from pgdoorman_lib.wire.runs cimport UnnamedRun

cdef int MAY_HAVE_ALTERED
cdef int HAS_ENABLED
cdef Py_ssize_t _NOTIFIER
cdef int HAS_ALTERED
cdef Py_ssize_t _COPY_MORE
cdef Py_ssize_t HIGH_WATER
cdef Py_ssize_t INSPECT
cdef int FAIRNESS


@cython.final
cdef class Responses:
    cdef public Turn turn
    cdef public Errands errands
    cdef public SqlPrepare sqlprepare
    cdef public PreparedStatements prepared
    cdef public Reports reports
    cdef public ErrorResponses error_responses

    @cython.locals(srv=Stream, client=Stream, fills=int, status=int, n=Py_ssize_t)
    cpdef int pump_server(self) except -1
    @cython.final
    @cython.locals(
        srv=Stream, replies=Replies, data=bytearray, pos=Py_ssize_t, end=Py_ssize_t, run=Py_ssize_t, status=int,
        avail=Py_ssize_t, size=Py_ssize_t, at=Py_ssize_t, kind=int, verdict=int, effect=Effect, instead=bytes,
        message=bytes,
    )
    cdef int _server_frames(self) except -1
    @cython.final
    @cython.locals(run=UnnamedRun, size=Py_ssize_t, kind=int)
    cdef Py_ssize_t _pass_run(self, bytearray data, Py_ssize_t pos, Py_ssize_t end) except -1
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
    @cython.locals(behind=UnnamedEffect)
    cdef int _unparsed(self) except -1
    @cython.final
    cdef int _found(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except -1
    @cython.final
    cdef void _described(self, object effect, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except *
