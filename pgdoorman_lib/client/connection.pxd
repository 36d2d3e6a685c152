# C types of client.connection.

import cython

from pgdoorman_lib.auth.md5 cimport Md5Challenge
from pgdoorman_lib.client.login_cache cimport LoginCache, KnownLogin
from pgdoorman_lib.client.login cimport Accepted, login
from pgdoorman_lib.client.logins cimport Logins
from pgdoorman_lib.client.registry cimport Clients
from pgdoorman_lib.client.session cimport Session
from pgdoorman_lib.metrics.counters cimport ConnectionStats
from pgdoorman_lib.net.engine cimport Engine, Task
from pgdoorman_lib.net.pollable cimport Pollable
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.net.syscalls cimport clock, cut
from pgdoorman_lib.pool.pool cimport Pool
from pgdoorman_lib.wire.messages cimport backend_key_data

cdef int _NOTHING
cdef int _PENDING
cdef int _UNFAMILIAR
cdef Py_ssize_t _MD5_SIZE
cdef int _FAIRNESS
cdef int _PASSWORD
cdef long _PROCESS_BASE
cdef bytes _AUTHENTICATION_OK
cdef bytes _READY_FOR_QUERY


cdef class Pooler:
    cdef public Engine engine
    cdef public Logins logins
    cdef public Clients clients
    cdef public ConnectionStats connections
    cdef public object general
    cdef public object doorway
    cdef public set open
    cdef public int admitted
    cdef public bint draining
    cdef public long max_connections
    cdef public bint log_connections
    cdef public bint log_disconnections
    cpdef let_in(self, object sock)
    cpdef admit(self)


cdef class Parting


cdef class Connection(Pollable):
    cdef public Pooler pooler
    cdef public Stream stream
    cdef public Task task
    cdef public object session
    cdef public bint admitted
    cdef public bint tls_refused
    cdef public KnownLogin known
    cdef public Md5Challenge challenge
    cdef public Accepted accepted
    cdef public Parting parting

    @cython.locals(pooler=Pooler, stream=Stream, task=Task)
    cpdef start(self)
    cpdef run(self)
    @cython.locals(n=Py_ssize_t)
    cpdef int poll(self) except -1
    @cython.locals(pooler=Pooler, stream=Stream, block=bytearray, familiar=LoginCache, known=KnownLogin, challenge=Md5Challenge)
    cpdef bint _recognise(self) except -1
    @cython.locals(stream=Stream, block=bytearray, text="const unsigned char *", start=Py_ssize_t, last=Py_ssize_t, known=KnownLogin, challenge=Md5Challenge)
    cpdef bint _verify(self) except -1
    cpdef int _count(self) except -1
    @cython.locals(pooler=Pooler)
    cpdef _close(self, object error, str reason)
    cpdef Pool _pool_of(self, Accepted accepted)
    @cython.locals(pooler=Pooler, pool=Pool, clients=Clients, session=Session, known=tuple)
    cpdef bint _begin(self, Accepted accepted, KnownLogin like) except -1


cdef class Parting(Pollable):
    cdef public Connection connection
    cdef public Task task
    cdef public object timer
    @cython.locals(connection=Connection, stream=Stream)
    cpdef int poll(self) except -1
    cpdef bint run_blocks(self) except -1
