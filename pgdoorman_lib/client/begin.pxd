# C types of client.begin.

import cython

from pgdoorman_lib.client.login cimport Accepted
from pgdoorman_lib.net.syscalls cimport clock
from pgdoorman_lib.pool.pool cimport Pool


@cython.locals(pool=Pool, known=tuple, asked=tuple)
cpdef tuple begin(object find_pool, Accepted accepted)
@cython.locals(pool=Pool)
cpdef Pool pool_of(object find_pool, Accepted accepted)
