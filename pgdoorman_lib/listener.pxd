# C types of listener.

import cython

from pgdoorman_lib.net.engine cimport Channel, Engine
from pgdoorman_lib.net.ring cimport Ring


cdef class ListeningChannel(Channel):
    cdef public object listener
    cdef public bint all_in
    cdef public double put_off
    cdef public bint waited
    cdef public object handle
    cdef public object options
    cpdef bint begin_receive(self, Ring ring) except -1
    @cython.locals(engine=Engine, left=int)
    cpdef void let_in(self) except *
    cpdef int hand_over(self, object client) except -1
    @cython.locals(engine=Engine)
    cpdef int go_on_next_turn(self) except -1
    cpdef int stand_by(self) except -1
