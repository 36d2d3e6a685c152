# C types of wire.runs.

import cython

from pgdoorman_lib.wire cimport consts, owed
from pgdoorman_lib.wire.effects cimport UnnamedEffect
from pgdoorman_lib.wire.prepared cimport ClientStatements, ServerStatements
from pgdoorman_lib.wire.statements cimport Unnamed


cdef class UnnamedRun(UnnamedEffect):
    cdef public bint described
    cdef public list statements
    cdef public int due
    cdef public Py_ssize_t left
    cpdef int enter(self, Unnamed statement) except -1
    @cython.locals(due=int)
    cpdef bint answered(self, int kind) except -1
    @cython.locals(number=Py_ssize_t, last=Unnamed, mine=Unnamed, held=Unnamed)
    cpdef int undone(self, int failed) except -1
