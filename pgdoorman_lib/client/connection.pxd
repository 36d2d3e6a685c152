# C types of client.connection.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.begin cimport begin, begin_at_once, pool_of
from pgdoorman_lib.client.login cimport Accepted, Familiar, Guest, finish, login, proceed, recognise
from pgdoorman_lib.client.pooler cimport Pooler
from pgdoorman_lib.client.registry cimport Clients
from pgdoorman_lib.client.session cimport Session
from pgdoorman_lib.net.engine cimport Task
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.net.syscalls cimport clock
from pgdoorman_lib.pool.pool cimport Pool
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.messages cimport backend_key_data

cdef bytes _READY_FOR_QUERY


cpdef accept(Pooler pooler, object sock)


cdef class Connection(Guest):
    cdef public Pooler pooler
    cdef public Stream stream
    cdef public Task task
    cdef public Familiar familiar
    cdef public Accepted accepted
    cdef public object session
    cdef public bint admitted
    cdef public str user
    cdef public str database
    cdef public tuple entered

    @cython.locals(pooler=Pooler, stream=Stream, task=Task, crowded=bint, full=bint)
    cpdef start(self)
    @cython.locals(stream=Stream, familiar=Familiar)
    cpdef int poll(self) except -1
    @cython.final
    @cython.locals(pooler=Pooler, found=tuple, task=Task, session=Session)
    cdef int _go_on(self, Accepted accepted) except -1
    @cython.final
    @cython.locals(pooler=Pooler)
    cdef int _let_in(self, Accepted accepted) except -1
    cpdef bint _is_balancer(self) except -1
    @cython.locals(session=Session, accepted=Accepted)
    cpdef run(self)
    @cython.locals(stream=Stream)
    cpdef close(self, object error, str reason)
    @cython.locals(pooler=Pooler, stream=Stream, task=Task)
    cpdef _log_in(self)
    cpdef asks(self, str user, str database)
    cpdef admit(self, bint console)
    @cython.final
    @cython.locals(pooler=Pooler)
    cdef Session _begin(self, Accepted accepted)
    @cython.final
    cdef Accepted _named(self, Accepted accepted)
    @cython.final
    @cython.locals(pooler=Pooler, pool=Pool, clients=Clients, session=Session, beginning=tuple, stream=Stream, reports=bytes)
    cdef Session _welcome(self, Accepted accepted, tuple found)
    @cython.locals(pooler=Pooler)
    cpdef _take_leave(self, object error, str reason)
