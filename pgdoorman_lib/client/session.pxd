# C types of client.session.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.errands cimport Errands
from pgdoorman_lib.metrics.counters cimport LinkStats, PoolStats
from pgdoorman_lib.net.engine cimport Engine, Task
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.pool.pool cimport Pool
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.framing cimport frame_size


cdef int _ASKED
cdef int _POSSIBLE
cdef int _ASK_AGAIN
cdef int _MIXED


cdef class Session(Errands):
    cdef public object plain
    cdef public long id
    cdef public bytes secret
    cdef public object user
    cdef public object database
    cdef public double connected_at
    cdef public object find_pool
    cdef public object abandon
    cdef public object close
    cdef public Pool pool
    cdef public bint waiting
    cdef public object termination
    cdef public bint warned
    cdef public bint unpinning
    cdef public bint unhindered
    cdef public bint listed
    cdef public object eof_timer
    cdef public bint kept
    cdef public int in_vain
    cdef public bint asking_sequences

    cpdef int use(self, Pool pool) except -1
    cpdef parameter_changed(self, str name, str value)
    cpdef int begin_with(self, object settings, object told, object base) except -1
    @cython.locals(client=Stream)
    cpdef Task start(self)
    cpdef run(self)
    cpdef bint run_blocks(self, int event) except -1
    cpdef str serve(self)
    @cython.locals(event=int)
    cpdef int poll(self) except -1
    @cython.final
    cdef int _say_goodbye(self) except -1
    @cython.final
    cdef bint _idle(self) except -1
    @cython.final
    cdef bint _resting(self) except -1
    @cython.final
    cdef str _ended(self, int event)
    @cython.final
    cdef str _parting(self, int event)
    @cython.final
    @cython.locals(pool=Pool)
    cdef int _borrow(self) except -1
    @cython.final
    @cython.locals(server=Server)
    cdef int _still_waiting(self) except -1
    @cython.final
    cdef int _prepare(self, Server server) except -1
    @cython.locals(client=Stream, said=int)
    cpdef bint gone(self) except -1
    @cython.final
    @cython.locals(client=Stream, data=bytearray, pos=Py_ssize_t, size=Py_ssize_t, lasting=int, whole=int)
    cdef int _has_said_all(self) except -1
    cpdef int at_eof(self) except -1
    @cython.final
    cdef int _close_half(self) except -1
    @cython.final
    cdef int _stop_timer(self) except -1
    @cython.final
    @cython.locals(server=Server, pool=Pool)
    cdef int _give_back(self) except -1
    @cython.final
    cdef bint _stays(self, Server server) except -1
    @cython.final
    @cython.locals(server=Server, asked=int)
    cdef int _examine(self) except -1
    @cython.final
    cdef bint _take_known(self, object text) except -1
    @cython.final
    cdef int _forget_notes(self) except -1
    @cython.final
    cdef void _note_names(self, Server server) except *
    @cython.final
    cdef int _question(self, int asked, bint unhindered) except -1
    cpdef object _defaults(self)
    @cython.final
    @cython.locals(server=Server)
    cdef int _take_settings(self, object found) except -1
    cpdef int let_go(self) except -1
    cpdef int ask_sequences(self) except -1
    @cython.final
    cdef void _sequences_told(self) except *
    cpdef bint restore(self) except -1
    @cython.locals(server=Server, asked=int)
    cpdef int examined(self) except -1
    @cython.final
    cdef int _pin(self, int pins) except -1
    @cython.final
    @cython.locals(pool=Pool)
    cdef bint _over_limit(self) except -1
    @cython.locals(pool=Pool)
    cpdef bint refuses(self, bytearray data, Py_ssize_t start, Py_ssize_t stop) except -1
    @cython.final
    @cython.locals(client=Stream, stats=LinkStats, received="long long", sent="long long")
    cdef int _account(self, Server server) except -1
    @cython.final
    @cython.locals(server=Server)
    cdef str _server_ended(self, int status)
    @cython.final
    @cython.locals(server=Server, in_batch=bint, half_sent=bint)
    cdef void _leave(self) except *
    cpdef int cancel_waiting(self) except -1
    cpdef int terminate_when_idle(self, object error) except -1
