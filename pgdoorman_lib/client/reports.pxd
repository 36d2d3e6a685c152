# C types of client.reports.

import cython

from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.client.unnamed cimport suspicious
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire cimport letters, owed
from pgdoorman_lib.wire.replies cimport Replies
from pgdoorman_lib.wire.statements cimport Statement, Unnamed

cdef int MAY_HAVE_ALTERED
cdef int HAS_ENABLED
cdef int HAS_ALTERED


@cython.final
cdef class Reports:
    cdef public Turn turn

    @cython.final
    @cython.locals(first=int, third=int, told=int)
    cdef bint command_complete(self, bytearray data, Py_ssize_t pos, Py_ssize_t size) except -1
    @cython.final
    cdef int _has_altered(self, bint active) except -1
    @cython.final
    @cython.locals(replies=Replies, simple=bint, unnamed=Unnamed)
    cdef void _without_rows(self, bytearray data, Py_ssize_t pos, Py_ssize_t size) except *
    @cython.final
    @cython.locals(server=Server, statement=Statement)
    cdef bint _tag(self, bytes tag) except -1
    @cython.final
    @cython.locals(server=Server, before=object)
    cdef void parameter_status(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, int verdict) except *
    @cython.locals(server=Server)
    cpdef int tell(self) except -1
    @cython.final
    @cython.locals(process=long)
    cdef int notification(self, bytearray data, Py_ssize_t pos) except -1
