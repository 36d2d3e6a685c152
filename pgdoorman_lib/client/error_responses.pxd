# C types of client.error_responses.

import cython

from pgdoorman_lib.client.errands cimport Errands
from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.client.prepared cimport PreparedStatements
from pgdoorman_lib.net.syscalls cimport holds
from pgdoorman_lib.server.unanswered cimport Unanswered
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.effects cimport Refused


@cython.final
cdef class ErrorResponses:
    cdef public Turn turn
    cdef public Errands errands
    cdef public PreparedStatements prepared

    @cython.final
    cdef bytes instead(self, bytes message, Effect effect, int verdict)
    @cython.final
    cdef bytes _as_written(self, bytes message)
    cpdef bytes _client_name(self, bytes name)
    @cython.final
    cdef bint holds(self, bytearray data, Py_ssize_t pos, Py_ssize_t size) except -1
    @cython.final
    @cython.locals(unanswered=Unanswered)
    cdef bint nothing_ran(self, bytes message, Py_ssize_t passed) except -1
    @cython.final
    @cython.locals(unanswered=Unanswered, again=bint)
    cdef bint sent_again(self, int tx) except -1
    @cython.final
    cdef int error_response(self, bytearray data, Py_ssize_t pos, Py_ssize_t avail, int verdict) except -1
