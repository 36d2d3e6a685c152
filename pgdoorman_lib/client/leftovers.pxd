# C types of client.leftovers.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.errands cimport Errands
from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.client.texts cimport Texts
from pgdoorman_lib.pool.pool cimport Pool
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire cimport consts

cdef int ASKED
cdef int POSSIBLE
cdef int ASK_AGAIN
cdef int ONLY_BACKEND


@cython.final
cdef class Leftovers:
    cdef public Turn turn
    cdef public Errands errands
    cdef public Texts texts
    cdef public bint placed
    cdef public bint unhindered
    cdef public bint listed
    cdef public int attempts

    @cython.final
    cdef int forget(self) except -1
    @cython.final
    @cython.locals(server=Server, asked=int)
    cdef int examine(self) except -1
    @cython.final
    cdef bint _take_known(self, object text) except -1
    cpdef int note_names(self) except -1
    @cython.final
    cdef int forget_notes(self) except -1
    @cython.final
    cdef int _question(self, int asked, bint unhindered) except -1
    cpdef object _defaults(self)
    cpdef bint restore(self) except -1
    @cython.locals(server=Server, asked=int)
    cpdef int examined(self) except -1
    @cython.final
    @cython.locals(server=Server)
    cdef int _take_settings(self, object found) except -1
    @cython.final
    cpdef int pin(self, int pins) except -1
    @cython.final
    cdef bint _keep(self, int pins) except -1
    @cython.final
    cdef int _give_place_back(self) except -1
    @cython.final
    cdef int _take_pins(self, int pins) except -1
    @cython.locals(pool=Pool)
    cpdef bint refuses(self, bytearray data, Py_ssize_t start, Py_ssize_t stop) except -1
    cpdef bytes refusal(self)
