# C types of client.session.

import cython

from pgdoorman_lib.client.relay cimport Relay
from pgdoorman_lib.metrics.counters cimport LinkStats, PoolStats
from pgdoorman_lib.net.engine cimport Engine, Task
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.pool.pool cimport Pool
from pgdoorman_lib.server.connection cimport Server


cdef class Session(Relay):
    cdef public long id
    cdef public bytes secret
    cdef public object user
    cdef public object database
    cdef public double connected_at
    cdef public object find_pool
    cdef public object abandon
    cdef public object close
    cdef public Pool pool
    cdef public int pending
    cdef public bint waiting
    cdef public object doomed
    cdef public bint warned
    cdef public bint unpinning
    cdef public bint patient

    cpdef int use(self, Pool pool) except -1
    cpdef parameter_changed(self, str name, str value)
    @cython.locals(engine=Engine, task=Task)
    cpdef object start(self)
    cpdef object run(self, object fault=*)
    @cython.locals(status=int, task=Task)
    cpdef str serve(self, object fault=*)
    cpdef int _idle(self) except -1
    @cython.locals(status=int)
    cpdef int advance(self) except -1
    @cython.locals(client=Stream)
    cdef int _resting(self) except -1
    @cython.locals(task=Task)
    cpdef int _finish(self, int status) except -1
    cpdef str _parting(self, int status)
    @cython.locals(pool=Pool)
    cpdef int _ask(self) except -1
    cpdef int _stop_waiting(self) except -1
    @cython.locals(status=int)
    cpdef int accept(self, Server server) except -1
    @cython.locals(client=Stream, n=Py_ssize_t)
    cpdef int gone(self) except -1
    cpdef int _apply(self) except -1
    cpdef int _ask_server(self, str sql) except -1
    @cython.locals(server=Server, pool=Pool)
    cpdef int _give_back(self) except -1
    @cython.locals(server=Server, asked=int)
    cpdef int _examine(self) except -1
    cpdef int _question(self, int asked, int patient) except -1
    cpdef int restore(self) except -1
    @cython.locals(server=Server, asked=int)
    cpdef int examined(self) except -1
    cpdef int _pin(self, int pins) except -1
    @cython.locals(pool=Pool)
    cpdef int _over_limit(self) except -1
    @cython.locals(pool=Pool, marks=int)
    cpdef int refuses(self, bytearray data, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.locals(client=Stream, stats=LinkStats, received="long long", sent="long long")
    cpdef int _account(self, Server server) except -1
    @cython.locals(server=Server)
    cpdef str _server_ended(self, int status)
    @cython.locals(server=Server, in_batch=bint, half_sent=bint)
    cpdef int _leave(self) except -1
    cpdef int cancel_waiting(self) except -1
    cpdef int dismiss(self, object error) except -1
