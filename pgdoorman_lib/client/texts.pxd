# C types of client.texts.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.deployment cimport Deployment
from pgdoorman_lib.client.errands cimport Errands
from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.net.syscalls cimport cut
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire cimport consts, owed
from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.replies cimport Replies
from pgdoorman_lib.wire.statements cimport Acts, Unnamed

cdef bytearray _forget_sequences
cdef int UNCERTAIN
cdef int DOUBTFUL_READING
cdef int MAY_HAVE_ALTERED
cdef int HAS_ENABLED


@cython.final
cdef class Texts:
    cdef public Turn turn
    cdef public Errands errands
    cdef public Deployment deployment
    cdef public bint asking_sequences

    @cython.final
    cdef int forget(self) except -1
    @cython.final
    @cython.locals(flags=int)
    cdef int reading(self) except -1
    @cython.final
    cdef object look(self, bytes text)
    @cython.final
    cdef int look_again(self, object statement, bytes text) except -1
    @cython.final
    cdef bint in_doubt(self) except -1
    @cython.final
    @cython.locals(replies=Replies)
    cdef int runs(self, object text, bint simple) except -1
    @cython.final
    cdef int names_options(self, object values) except -1
    @cython.final
    cdef int cut(self, bytearray data, Py_ssize_t pos, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t size) except -1
    @cython.final
    cdef int streamed(self, bytearray data, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t left) except -1
    @cython.final
    @cython.locals(unnamed=Unnamed)
    cdef void _note_part(self, object text) except *
    @cython.final
    cdef int function_call(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except -1
    @cython.final
    @cython.locals(server=Server)
    cdef int hide_sequences(self) except -1
    cpdef int forget_sequences(self) except -1
    @cython.final
    @cython.locals(replies=Replies)
    cdef bint sequences_settled(self) except -1
    cpdef int ask_sequences(self) except -1
    @cython.final
    cdef void sequences_told(self) except *
