# C types of client.begin.

import cython

from pgdoorman_lib.client.login cimport Accepted
from pgdoorman_lib.client.pooler cimport Pooler
from pgdoorman_lib.net.syscalls cimport clock
from pgdoorman_lib.pool.beginnings cimport Beginnings
from pgdoorman_lib.pool.pool cimport Pool


@cython.locals(pool=Pool, beginnings=Beginnings, known=tuple, at_once=tuple, asked=tuple)
cpdef tuple begin(Pooler pooler, Accepted accepted)
@cython.locals(pool=Pool, known=tuple)
cpdef tuple begin_at_once(Pooler pooler, Accepted accepted)
@cython.locals(beginnings=Beginnings)
cdef tuple _known(Pool pool, Accepted accepted)
@cython.locals(pool=Pool)
cpdef Pool pool_of(Pooler pooler, Accepted accepted)
