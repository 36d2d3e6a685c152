# C types of client.statements.

import cython

from pgdoorman_lib.net.stream cimport Stream
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
cdef int _PARSE
cdef int _BIND
cdef int _DESCRIBE
cdef int _CLOSE
cdef int _MADE_PARSE
cdef int _MADE_CLOSE
cdef int _SWALLOW
cdef int _DIRTY_PARAMETERS
cdef int _TEXT_DEALLOCATE
cdef int _DIRTY
cdef bytearray _scratch
cdef bytearray _parse_complete
cdef bytearray _close_complete
cdef bytearray _close_unnamed


cdef class StatementDesk(Borrower):
    cdef public Stream client
    cdef public object deallocating
    cdef public object fault
    cdef public bint group_suspect
    cdef public bint group_unnamed
    cdef public Py_ssize_t parse_limit
    cdef public Registry registry
    cdef public Replies replies
    cdef public Server server
    cdef public object settings
    cdef public Stream srv
    cdef public ClientStatements statements
    cdef public set taken

    @cython.locals(held=ServerStatements)
    cpdef int _query(self, Replies replies) except -1
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
