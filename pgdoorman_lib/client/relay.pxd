# C types of client.relay.

import cython

from pgdoorman_lib.metrics.counters cimport LinkStats, PoolStats
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.net.syscalls cimport copy
from pgdoorman_lib.pool.pool cimport Borrower
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire.framing cimport find_nul, frame_size, put_header
from pgdoorman_lib.wire.prepared cimport (
    ClientStatements,
    Eviction,
    InjectedParse,
    NameClosed,
    NamedParse,
    Registry,
    ServerStatements,
    Statement,
    Unnamed,
    UnnamedInjected,
    UnnamedParse,
    unnamed_close,
    unnamed_parse,
)
from pgdoorman_lib.wire.replies cimport Effect, Replies
from pgdoorman_lib.wire.sqltext cimport scan

cdef int _QUERY
cdef int _FUNCTION
cdef int _SYNC
cdef int _PARSE
cdef int _BIND
cdef int _DESCRIBE
cdef int _EXECUTE
cdef int _CLOSE
cdef int _COPY_END
cdef int _MADE_PARSE
cdef int _MADE_CLOSE
cdef int _SWALLOW
cdef Py_ssize_t _HIGH_WATER
cdef Py_ssize_t _INSPECT
cdef int _FAIRNESS
cdef Py_ssize_t _COPY_MORE
cdef int _DIRTY_PARAMETERS
cdef int _TEXT_DEALLOCATE
cdef int _DIRTY
cdef bytearray _scratch
cdef bytearray _parse_complete
cdef bytearray _close_complete
cdef bytearray _ready_idle
cdef bytearray _empty_and_ready
cdef bytearray _close_unnamed


cdef class Relay(Borrower):
    cdef public Stream client
    cdef public LinkStats stats
    cdef public PoolStats pool_stats
    cdef public Server server
    cdef public Stream srv
    cdef public Replies replies
    cdef public Registry registry
    cdef public object settings
    cdef public bint sync_parameters
    cdef public bint shared
    cdef public bint by_transaction
    cdef public bytes check_query
    cdef public Py_ssize_t parse_limit
    cdef public ClientStatements statements
    cdef public Py_ssize_t client_left
    cdef public bint client_drop
    cdef public Py_ssize_t server_left
    cdef public bint server_drop
    cdef public bint in_batch
    cdef public bint group_unnamed
    cdef public bint group_suspect
    cdef public object deallocating
    cdef public set taken
    cdef public bint terminated
    cdef public int discarding
    cdef public bytes cancelled_message
    cdef public object fault
    cdef public bytes refusal
    cdef public double query_started
    cdef public double xact_started

    cpdef int attach(self, Server server) except -1
    cpdef int detach(self) except -1
    @cython.locals(status=int, rounds=int)
    cpdef int step(self) except -1
    @cython.locals(client=Stream, fills=int, status=int, n=Py_ssize_t)
    cpdef int pump_client(self) except -1
    @cython.locals(client=Stream, size=Py_ssize_t)
    cpdef int _make_room(self) except -1
    @cython.locals(
        client=Stream, data=bytearray, pos=Py_ssize_t, end=Py_ssize_t, run=Py_ssize_t, status=int, avail=Py_ssize_t,
        size=Py_ssize_t, kind=int, replies=Replies, marks=int, message=bytearray, late=int,
    )
    cpdef int _client_frames(self) except -1
    @cython.locals(replies=Replies)
    cpdef int _free(self) except -1
    @cython.locals(held=ServerStatements)
    cpdef int _query(self, Replies replies) except -1
    @cython.locals(size=Py_ssize_t, client=Stream, block=bytearray)
    cpdef int _to_server(self, Py_ssize_t run, Py_ssize_t pos) except -1
    cpdef int _discard(self, int kind) except -1
    @cython.locals(check=bytes)
    cpdef int _without_server(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, int kind) except -1
    @cython.locals(
        replies=Replies, stop=Py_ssize_t, begin=Py_ssize_t, name_end=Py_ssize_t, name=bytes, statement=Statement
    )
    cpdef int _statement(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, int kind) except -1
    cpdef int _to_server_part(self, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.locals(srv=Stream, head=bytearray)
    cpdef int _send_renamed(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, int kind, Py_ssize_t begin, Py_ssize_t name_end, bytearray cname) except -1
    @cython.locals(held=ServerStatements, message=bytearray)
    cpdef int _ensure(self, Statement statement) except -1
    @cython.locals(held=ServerStatements, victim=Statement, message=bytearray)
    cpdef int _evict(self) except -1
    @cython.locals(
        replies=Replies, held=ServerStatements, first=int, stop=Py_ssize_t, name=bytes, body=bytes, statement=Statement,
        marks=int, message=bytearray, dummy=bytearray,
    )
    cpdef int _parse(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, Py_ssize_t name_end) except -1
    cpdef int _suspect(self, bytearray data, Py_ssize_t start) except -1
    @cython.locals(replies=Replies, held=ServerStatements, mine=ClientStatements, size=Py_ssize_t, avail=Py_ssize_t)
    cpdef int _use_unnamed(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, int kind) except -1
    @cython.locals(replies=Replies, held=ServerStatements, mine=Unnamed, message=bytearray)
    cpdef int _remake_unnamed(self) except -1
    @cython.locals(stand_in=Statement, message=bytearray)
    cpdef object _renamed_deallocations(self, bytes text, Py_ssize_t run, Py_ssize_t pos)
    @cython.locals(code=int)
    cpdef int emit_made(self) except -1
    @cython.locals(srv=Stream, client=Stream, fills=int, status=int, n=Py_ssize_t)
    cpdef int pump_server(self) except -1
    @cython.locals(
        srv=Stream, replies=Replies, data=bytearray, pos=Py_ssize_t, end=Py_ssize_t, run=Py_ssize_t, status=int,
        avail=Py_ssize_t, size=Py_ssize_t, kind=int, verdict=int,
    )
    cpdef int _server_frames(self) except -1
    cpdef int _server_made(self, Py_ssize_t run, Py_ssize_t pos) except -1
    cpdef int _to_client_part(self, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.locals(
        size=Py_ssize_t, srv=Stream, client=Stream, block=bytearray, fresh=bytearray, rest=Py_ssize_t
    )
    cpdef int _to_client(self, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.locals(now=double, spent="long long", stats=PoolStats)
    cpdef int _ready(self, int tx) except -1
    @cython.locals(first=int, third=int, server=Server)
    cpdef int _command_complete(self, bytearray data, Py_ssize_t pos, Py_ssize_t size) except -1
    @cython.locals(server=Server)
    cpdef int _parameter_status(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, int verdict) except -1
    cpdef int _error_response(self, bytearray data, Py_ssize_t pos, Py_ssize_t avail, int verdict) except -1
