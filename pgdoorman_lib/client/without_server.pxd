# C types of client.without_server.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.leftovers cimport Leftovers
from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.framing cimport find_nul, frame_size
from pgdoorman_lib.wire.prepared cimport ClientStatements
from pgdoorman_lib.wire.statements cimport Statement

cdef bytearray PARSE_COMPLETE
cdef bytearray CLOSE_COMPLETE
cdef bytearray READY_IDLE
cdef Py_ssize_t MAX_NAME


@cython.final
cdef class WithoutServer:
    cdef public Turn turn
    cdef public Leftovers leftovers
    cdef public int discarding
    cdef public bytes refusal_message
    cdef public Py_ssize_t skip_to

    @cython.final
    cdef int forget(self) except -1
    @cython.final
    @cython.locals(check=bytes, answer=bytearray, alone=bint, start=Py_ssize_t)
    cdef int answer(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, int kind) except -1
    @cython.final
    @cython.locals(size=Py_ssize_t)
    cdef bint _executes(self, bytearray data, Py_ssize_t pos, Py_ssize_t end) except -1
    @cython.final
    cdef int _discard(self, int kind) except -1
    @cython.final
    @cython.locals(
        names=dict, at=Py_ssize_t, size=Py_ssize_t, kind=int, begin=Py_ssize_t, name_end=Py_ssize_t, name=bytes,
        statement=Statement, mine=ClientStatements, now=double,
    )
    cdef bint _answer_alone(self, bytearray data, Py_ssize_t pos, Py_ssize_t end) except -1
    cpdef int refuse(self, bytes message) except -1
