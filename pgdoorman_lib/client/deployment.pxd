# C types of client.deployment.

import cython

from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.wire cimport owed
from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.effects cimport Eviction, InjectedParse, Verification
from pgdoorman_lib.wire.prepared cimport ServerStatements
from pgdoorman_lib.wire.statements cimport Acts, Handle, Statement

cdef int DIRTY_TEMPORARY
cdef Py_ssize_t LARGE


@cython.final
cdef class Deployment:
    cdef public Turn turn

    @cython.final
    @cython.locals(own=Statement)
    cdef Statement own(self, bytes name, Statement statement)
    @cython.final
    cdef bint _foreign(self, Statement statement) except -1
    @cython.final
    cdef bint apart(self) except -1
    @cython.final
    @cython.locals(statement=Statement)
    cdef bint fits(self, Acts acts) except -1
    @cython.final
    @cython.locals(held=ServerStatements, message=bytearray)
    cdef int ensure(self, Statement statement) except -1
    @cython.final
    @cython.locals(held=ServerStatements)
    cdef int missing(self, Statement statement, Acts acts) except -1
    @cython.final
    @cython.locals(message=bytearray)
    cdef int _close(self, Handle handle) except -1
    @cython.final
    @cython.locals(message=bytearray)
    cdef int inject(self, Statement statement, Effect effect) except -1
    @cython.final
    cdef int _prepare_by_sql(self, Statement statement) except -1
    @cython.final
    cdef int run_errand(self, bytes sql, Effect effect) except -1
    @cython.final
    @cython.locals(held=ServerStatements, victim=Handle)
    cdef void _evict(self, Acts acts, Py_ssize_t size) except *
    @cython.final
    cdef int take(self, bytes name) except -1
    @cython.final
    @cython.locals(held=ServerStatements, verification=Verification, message=bytearray)
    cdef bint verified(self, Statement statement) except -1
    @cython.final
    @cython.locals(handle=Handle, held=ServerStatements)
    cdef void unheld(self, Statement statement) except *
