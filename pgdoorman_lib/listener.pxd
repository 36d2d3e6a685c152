# C types of listener.

import cython

from pgdoorman_lib.net.engine cimport Channel, Engine
from pgdoorman_lib.net.ring cimport Ring


cdef class ListeningChannel(Channel):
    cpdef bint begin_receive(self, Ring ring) except -1
