# C types of client.memory.

import cython

from pgdoorman_lib.net.engine cimport Engine
from pgdoorman_lib.pool.row cimport Row
from pgdoorman_lib.wire.statements cimport Tally

cdef Tally REMEMBERED

@cython.locals(row=Row)
cpdef long long taken(Engine engine) except -1
