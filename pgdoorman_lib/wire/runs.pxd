# C types of wire.runs.

import cython

from pgdoorman_lib.wire cimport consts, owed
from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.prepared cimport ClientStatements, ServerStatements
from pgdoorman_lib.wire.statements cimport Unnamed


cdef class UnnamedRun(Effect):
    cdef public ClientStatements client
    cdef public ServerStatements server
    cdef public bint described
    cdef public list statements
    cdef public Unnamed old_client
    cdef public Unnamed old_server
    cdef public int due
    cdef public Py_ssize_t left
    cpdef int enter(self, Unnamed statement) except -1
    @cython.locals(due=int)
    cpdef bint answered(self, int kind) except -1
    @cython.locals(number=Py_ssize_t, last=Unnamed, mine=Unnamed, held=Unnamed)
    cpdef int undone(self, int failed) except -1
