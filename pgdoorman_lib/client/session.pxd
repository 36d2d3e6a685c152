# C types of client.session.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.relay cimport Relay
from pgdoorman_lib.client.served cimport Served
from pgdoorman_lib.net.engine cimport Task
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.pool.pool cimport Pool
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire cimport consts

cdef int ASKED
cdef int DIRTY_PREPARED
cdef int MIXED


cdef class Session(Served):
    cdef public object plain
    cdef public long id
    cdef public bytes secret
    cdef public object user
    cdef public object database
    cdef public double connected_at
    cdef public object find_pool
    cdef public object abandon
    cdef public object close
    cdef public bint leaving
    cdef public object termination
    cdef public bint kept
    cdef public int in_vain

    cpdef object label(self)
    @cython.locals(client=Stream)
    cpdef Task start(self)
    cpdef int go_on_with(self, Task task) except -1
    cpdef run(self)
    cpdef bint run_blocks(self, int event) except -1
    cpdef str serve(self)
    @cython.locals(event=int, relay=Relay)
    cpdef int poll(self) except -1
    @cython.final
    cdef int _say_goodbye(self) except -1
    @cython.final
    cdef bint _may_end(self) except -1
    @cython.final
    @cython.locals(pool=Pool)
    cdef int _borrow(self) except -1
    @cython.final
    @cython.locals(server=Server)
    cdef int _still_waiting(self) except -1
    @cython.final
    @cython.locals(pool=Pool)
    cdef int _prepare(self, Server server) except -1
    @cython.final
    @cython.locals(server=Server, pool=Pool)
    cdef int _give_back(self) except -1
    @cython.final
    @cython.locals(asks=int)
    cdef bint _stays(self, Server server) except -1
    cpdef int let_go(self) except -1
    cpdef int forget_sequences(self) except -1
    @cython.final
    @cython.locals(server=Server, in_batch=bint, half_sent=bint)
    cdef void _leave(self) except *
    cpdef int end(self, object error) except -1
    cpdef int terminate_when_idle(self, object error) except -1
