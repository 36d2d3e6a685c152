# C types of client.sqlprepare.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.deployment cimport Deployment
from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.client.texts cimport Texts
from pgdoorman_lib.wire cimport consts, owed
from pgdoorman_lib.wire.effects cimport AwaitedParse, QueryParse, unnamed_close
from pgdoorman_lib.wire.framing cimport find_nul
from pgdoorman_lib.wire.prepared cimport ServerStatements
from pgdoorman_lib.wire.replies cimport Replies
from pgdoorman_lib.wire.statements cimport Acts, Statement

cdef bytearray _sync
cdef bytearray FLUSH


@cython.final
cdef class SqlPrepare:
    cdef public Turn turn
    cdef public Deployment deployment
    cdef public Texts texts

    @cython.final
    @cython.locals(held=ServerStatements)
    cdef int query(self, Replies replies) except -1
    @cython.final
    @cython.locals(acts=Acts, stop=Py_ssize_t, waits=int)
    cdef int query_text(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except -1
    @cython.final
    @cython.locals(held=ServerStatements, awaited=AwaitedParse, statement=Statement)
    cdef int _awaits(self, Acts acts, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.final
    @cython.locals(held=ServerStatements, statement=Statement)
    cdef bint _has(self, object statements) except -1
    @cython.final
    @cython.locals(replies=Replies)
    cdef bint names_settled(self) except -1
    @cython.final
    @cython.locals(acts=Acts, statement=Statement)
    cdef Acts acts(self, object text, bytes original)
    @cython.final
    @cython.locals(acts=Acts, fresh=Acts)
    cdef Statement renewed(self, bytes name, Statement statement)
    @cython.final
    @cython.locals(held=ServerStatements, statement=Statement)
    cdef bytes act(self, Acts acts, int kind, bytearray data, Py_ssize_t start, Py_ssize_t stop)
    @cython.final
    cdef int rewritten(self, bytes front, Acts acts) except -1
    @cython.final
    @cython.locals(replies=Replies)
    cdef int _goes(self, object rewriting) except -1
    @cython.final
    @cython.locals(begin=Py_ssize_t, end=Py_ssize_t)
    cdef void another(self, int kind, bytearray data, Py_ssize_t pos, Py_ssize_t stop) except *
    @cython.final
    cdef object text_of(self, long number)
    @cython.final
    cdef int answered(self, long number) except -1
