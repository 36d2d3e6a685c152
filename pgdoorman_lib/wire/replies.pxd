# C types of wire.replies.

import cython

from pgdoorman_lib.wire cimport consts, owed
from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.effects cimport take_back
from pgdoorman_lib.wire.runs cimport UnnamedRun


cpdef int owed_for(int kind) except -1


@cython.final
cdef class Replies:
    cdef public bytearray ring
    cdef public Py_ssize_t size
    cdef public Py_ssize_t head
    cdef public Py_ssize_t count
    cdef public long popped
    cdef public list effects
    cdef public Py_ssize_t barrier
    cdef public int queries
    cdef public int syncs
    cdef public int made
    cdef public bint parsed
    cdef public bint unparsed
    cdef public bint skipping
    cdef public bint copy_in
    cdef public Py_ssize_t ignored
    cdef public bint uncertain
    cdef public int status
    cdef public bint swallowed_error
    @cython.locals(code=int, ring="unsigned char*")
    cpdef int add(self, int op) except -1
    @cython.final
    @cython.locals(code=int)
    cdef bint _brings_answer(self, int op) except -1
    cpdef int add_effect(self, int op, Effect effect) except -1
    @cython.locals(size=Py_ssize_t, index=Py_ssize_t)
    cpdef int _enlarge(self) except -1
    @cython.locals(op=int, code=int, effect=Effect)
    cpdef int _pop(self) except -1
    cpdef int _skip_markers(self) except -1
    @cython.locals(code=int)
    cpdef int made_next(self) except -1
    cpdef Effect due(self)
    cpdef bint settled(self) except -1
    @cython.locals(op=int, verdict=int, code=int)
    cpdef int account(self, int kind) except -1
    @cython.locals(run=UnnamedRun)
    cpdef bint _goes_on(self, int kind) except -1
    @cython.locals(mask=Py_ssize_t)
    cpdef int _unfold(self) except -1
    cpdef int _unasked(self, int kind) except -1
    @cython.locals(index=Py_ssize_t, mask=Py_ssize_t, op=int, ended=int, stop=int)
    cpdef int _copy_begins(self) except -1
    @cython.locals(mask=Py_ssize_t, index=Py_ssize_t, undo=Py_ssize_t, first_has_effect=int)
    cpdef bint _error(self, int op, int code) except -1
