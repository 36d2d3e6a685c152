# C types of client.prepared.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.wire cimport consts, owed
from pgdoorman_lib.client.sqlprepare cimport SqlPrepare
from pgdoorman_lib.net.engine cimport Engine
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.net.syscalls cimport cut, holds
from pgdoorman_lib.wire.framing cimport find_nul, frame_size, put_header
from pgdoorman_lib.wire.effects cimport (
    Described,
    NameClosed,
    NamedParse,
    UnnamedInjected,
    UnnamedParse,
    Verification,
    unnamed_close,
    unnamed_parse,
)
from pgdoorman_lib.wire.prepared cimport ClientStatements, ServerStatements
from pgdoorman_lib.wire.statements cimport Acts, Handle, Statement, Tally, Unnamed
from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.replies cimport Replies, owed_for
from pgdoorman_lib.wire.scan cimport Scanner

cdef Py_ssize_t _LARGE
cdef Py_ssize_t _MAX_SHARED
cdef Py_ssize_t _MAX_NAME
cdef Py_ssize_t _BLOCK_SIZE
cdef Py_ssize_t _MAX_USED
cdef frozenset _TAME
cdef int _SELECT
cdef int _WITH
cdef Tally _remembered
cdef bytearray _nobody
cdef bytearray _scratch
cdef bytearray _parse_complete
cdef bytearray _close_complete
cdef bytearray _close_unnamed


cdef class PreparedStatements(SqlPrepare):
    @cython.final
    @cython.locals(
        replies=Replies, mine=ClientStatements, unnamed=Unnamed, size=Py_ssize_t, at=Py_ssize_t, start=Py_ssize_t,
        stop=Py_ssize_t, body=bytes,
    )
    cdef Py_ssize_t _plain_batch(self, bytearray data, Py_ssize_t pos, Py_ssize_t end) except -1
    @cython.final
    @cython.locals(
        replies=Replies, stop=Py_ssize_t, begin=Py_ssize_t, name_end=Py_ssize_t, name=bytes, statement=Statement,
        closed=NameClosed,
    )
    cdef int _statement(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, int kind) except -1
    @cython.final
    @cython.locals(before=Statement)
    cdef int _uses(self, Statement statement) except -1
    @cython.locals(statement=Statement)
    cpdef int doubt_used(self) except -1
    @cython.final
    @cython.locals(handle=Handle, held=ServerStatements)
    cdef void _unheld(self, Statement statement) except *
    @cython.final
    cdef int _refuse(self, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.final
    @cython.locals(held=ServerStatements, verification=Verification, message=bytearray)
    cdef bint _verified(self, Statement statement) except -1
    @cython.final
    @cython.locals(
        names=dict, at=Py_ssize_t, size=Py_ssize_t, kind=int, begin=Py_ssize_t, name_end=Py_ssize_t, name=bytes,
        statement=Statement, mine=ClientStatements, now=double,
    )
    cdef bint _answer_alone(self, bytearray data, Py_ssize_t pos, Py_ssize_t end) except -1
    @cython.final
    @cython.locals(srv=Stream, head=bytearray)
    cdef int _send_renamed(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, int kind, Py_ssize_t begin, Py_ssize_t name_end, bytearray cname) except -1
    @cython.final
    @cython.locals(
        replies=Replies, held=ServerStatements, status=int, stop=Py_ssize_t, name=bytes, body=bytes, statement=Statement,
        message=bytearray, acts=Acts, named=bint, private=bint, suspect=bint, now=double,
    )
    cdef int _parse(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, Py_ssize_t name_end) except -1
    @cython.final
    @cython.locals(engine=Engine, block=bytearray, taken="long long")
    cdef bint _overfull(self, Py_ssize_t size) except -1
    @cython.final
    @cython.locals(replies=Replies, held=ServerStatements, mine=ClientStatements)
    cdef int _use_unnamed(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, int kind) except -1
    @cython.final
    @cython.locals(size=Py_ssize_t, avail=Py_ssize_t)
    cdef int _send_as_it_came(self, bytearray data, Py_ssize_t pos) except -1
    @cython.final
    @cython.locals(mine=ClientStatements, unnamed=Unnamed, acts=Acts, stop=Py_ssize_t)
    cdef int _use_acting(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, int kind) except -1
    @cython.final
    @cython.locals(replies=Replies, held=ServerStatements, mine=Unnamed, message=bytearray)
    cdef void _remake_unnamed(self) except *
    @cython.locals(code=int)
    cpdef int emit_made(self) except -1


@cython.locals(body=bytearray)
cpdef int suspicious(Unnamed unnamed) except -1
@cython.locals(at=Py_ssize_t, word=int)
cpdef bint unsettling(bytearray data, Py_ssize_t start, Py_ssize_t stop) except -1
