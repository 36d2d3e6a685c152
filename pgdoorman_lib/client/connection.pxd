# C types of client.connection.

import cython

from pgdoorman_lib.client.login cimport Accepted, login
from pgdoorman_lib.client.logins cimport Logins
from pgdoorman_lib.client.registry cimport Clients
from pgdoorman_lib.client.session cimport Session
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.pool.pool cimport Pool
from pgdoorman_lib.wire.messages cimport authentication_ok, backend_key_data, ready_for_query


cdef class Connection:
    cdef public bint admitted
    cdef public object greenlet
    cdef public object house
    cdef public object label
    cdef public object session
    cdef public Stream stream

    cpdef _close(self, object error, str reason)
    @cython.locals(logins=Logins)
    cpdef _login(self)
    cpdef Pool _pool_of(self, Accepted accepted)
    @cython.locals(pool=Pool, clients=Clients, session=Session)
    cpdef _begin(self, Accepted accepted)
    cpdef _welcome(self, Session session, Accepted accepted)
    @cython.locals(pool=Pool)
    cpdef bytes _report(self, Session session, Accepted accepted)
