# C types of client.unnamed.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.deployment cimport Deployment
from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.client.sqlprepare cimport SqlPrepare
from pgdoorman_lib.client.texts cimport Texts
from pgdoorman_lib.net.syscalls cimport cut, holds
from pgdoorman_lib.wire cimport consts, owed
from pgdoorman_lib.wire.effects cimport UnnamedInjected, unnamed_close
from pgdoorman_lib.wire.framing cimport find_nul, frame_size
from pgdoorman_lib.wire.prepared cimport ClientStatements, ServerStatements
from pgdoorman_lib.wire.replies cimport Replies, owed_for
from pgdoorman_lib.wire.runs cimport UnnamedRun
from pgdoorman_lib.wire.scan cimport Lexicon, Scanner
from pgdoorman_lib.wire.statements cimport Acts, Unnamed

cdef bytearray _close_unnamed
cdef frozenset _TAME
cdef int _SELECT
cdef int _WITH


cdef Py_ssize_t EXECUTE_SIZE
cdef int _COPY
cdef int _UNASKED
cdef int _JOINS
cdef int _ALONE
cdef Py_ssize_t MOST_KNOWN
cdef Py_ssize_t MAX_KNOWN


@cython.final
cdef class KnownText:
    cdef public bytes body
    cdef public int kind
    cdef bint joins(self) except -1
    @cython.locals(unnamed=Unnamed)
    cdef Unnamed parsed(self, Lexicon lexicon)


@cython.final
cdef class UnnamedStatement:
    cdef public Turn turn
    cdef public Deployment deployment
    cdef public Texts texts
    cdef public SqlPrepare sqlprepare

    @cython.final
    @cython.locals(replies=Replies, stop=Py_ssize_t, at=Py_ssize_t)
    cdef Py_ssize_t groups(self, bytearray data, Py_ssize_t pos, Py_ssize_t end) except -1
    @cython.final
    @cython.locals(unnamed=Unnamed, text=KnownText)
    cdef Py_ssize_t _plain(
        self, bytearray data, Py_ssize_t pos, Py_ssize_t stop, Py_ssize_t at, Py_ssize_t end
    ) except -1
    @cython.final
    @cython.locals(run=UnnamedRun, before=KnownText, unnamed=Unnamed, text=KnownText, described=bint)
    cdef Py_ssize_t _run(
        self, bytearray data, Py_ssize_t pos, Py_ssize_t stop, Py_ssize_t at, Py_ssize_t end
    ) except -1
    @cython.final
    @cython.locals(scanner=Scanner, reading=int, body=bytes, known=dict, text=KnownText)
    cdef KnownText _known(self, bytearray data, Py_ssize_t start, Py_ssize_t stop)
    @cython.final
    @cython.locals(replies=Replies, held=ServerStatements, mine=ClientStatements)
    cdef int use_unnamed(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, int kind) except -1
    @cython.final
    @cython.locals(mine=ClientStatements, unnamed=Unnamed, acts=Acts, stop=Py_ssize_t)
    cdef int _use_acting(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, int kind) except -1
    @cython.final
    @cython.locals(replies=Replies, held=ServerStatements, mine=Unnamed, message=bytearray)
    cdef void _remake_unnamed(self) except *
    @cython.final
    @cython.locals(size=Py_ssize_t, avail=Py_ssize_t)
    cdef int _send_as_it_came(self, bytearray data, Py_ssize_t pos) except -1


@cython.locals(size=Py_ssize_t)
cdef Py_ssize_t parse_end(bytearray data, Py_ssize_t pos, Py_ssize_t end) except -1
@cython.locals(size=Py_ssize_t)
cdef Py_ssize_t group_end(bytearray data, Py_ssize_t at, Py_ssize_t end) except -1
@cython.locals(body=bytearray)
cpdef int suspicious(Unnamed unnamed) except -1
@cython.locals(word=int)
cpdef bint unsettling(bytearray data, Py_ssize_t start, Py_ssize_t stop) except -1
@cython.locals(at=Py_ssize_t)
cpdef int first_letters(bytearray data, Py_ssize_t start, Py_ssize_t stop) except -1
