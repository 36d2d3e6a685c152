# C types of client.pooler.

import cython

from pgdoorman_lib.client.logins cimport Logins
from pgdoorman_lib.client.registry cimport Clients
from pgdoorman_lib.metrics.counters cimport ConnectionStats
from pgdoorman_lib.net.engine cimport Engine
from pgdoorman_lib.pool.pool cimport Pool
from pgdoorman_lib.pool.registry cimport Pools


cdef class Pooler:
    cdef public Engine engine
    cdef public Logins logins
    cdef public Clients clients
    cdef public ConnectionStats connections
    cdef public object general
    cdef public object policy
    cdef public Pools pools
    cdef public object pool_finder
    cdef public object abandoner
    cdef public set open
    cdef public int admitted
    cdef public int processes
    cdef public object headcount
    cdef public object take_away
    cdef public bint draining
    cdef public long max_connections
    cdef public long max_db_clients
    cdef public long max_user_clients
    cdef public long max_open
    cdef public long max_files
    cdef public object proxies
    cdef public bint log_connections
    cdef public bint log_disconnections
    cdef public bint add_host
    cdef public dict max_clients_by_database
    cdef public dict max_clients_by_user
    cdef public object named
    cpdef Pool find_pool(self, str database, str user)
    cpdef bint is_looked_up(self, str database, str user) except -1
    cpdef check_room(self, bint console)
    cpdef admit(self, bint console)
    cpdef discharge(self)
    @cython.locals(limit=long)
    cpdef admit_to(self, str database, str user)
    cpdef enter(self, str database, str user)
    cpdef exit(self, str database, str user)
    @cython.locals(limit=long)
    cdef long _most_on(self, str database) except -1
    @cython.locals(limit=long)
    cdef long _most_of(self, str database, str user) except -1
