# C types of pool.pool.

import cython

from pgdoorman_lib.metrics.counters cimport PoolStats
from pgdoorman_lib.net.deadlines cimport Deadline
from pgdoorman_lib.net.engine cimport Engine, Task
from pgdoorman_lib.net.syscalls cimport clock
from pgdoorman_lib.pool.opening cimport Opening
from pgdoorman_lib.pool.pins cimport Pins
from pgdoorman_lib.pool.probes cimport Probes
from pgdoorman_lib.pool.queue cimport Borrower, ServerQueue
from pgdoorman_lib.pool.row cimport Row
from pgdoorman_lib.server cimport states
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.statements cimport Registry
from pgdoorman_lib.wire.scan cimport Scanner


@cython.final
cdef class Pool:
    cdef public object settings
    cdef public Engine engine
    cdef public object connect
    cdef public object tidy
    cdef public Py_ssize_t size
    cdef public double timeout
    cdef public double check_after
    cdef public ServerQueue queue
    cdef public set servers
    cdef public Py_ssize_t borrowed
    cdef public Opening opening
    cdef public Probes probes
    cdef public object standing
    cdef public object beginnings
    cdef public Pins pins
    cdef public object slow
    cdef public bint held
    cdef public bint paused
    cdef public bint disabled
    cdef public Py_ssize_t elsewhere
    cdef public Py_ssize_t aside
    cdef public Row row
    cdef public object exchange
    cdef public object before
    cdef public object heir
    cdef public object roll
    cdef public Py_ssize_t most
    cdef public bint by_transaction
    cdef public bint shared
    cdef public bint sync_parameters
    cdef public bint transparent
    cdef public bint log_parameters
    cdef public bint forget_names
    cdef public Py_ssize_t parse_limit
    cdef public bint retired
    cdef public Deadline expiry
    cdef public object sequences
    cdef public object health
    cdef public Registry registry
    cdef public Scanner scanner
    cdef public PoolStats stats
    cdef public object quota
    cdef public object login_parameters
    cdef public bint moved
    cdef public object refusal
    cdef public double eof_timeout
    cdef public object credentials
    cdef public str secret
    cdef public object database
    cdef object __weakref__

    @cython.locals(server=Server, now=double, queue=ServerQueue, room=bint, row=Row)
    cpdef bint request(self, Borrower borrower) except -1
    @cython.locals(now=double)
    cdef bint _wait_for_resume(self, Borrower borrower) except -1
    cpdef void withdraw(self, Borrower borrower) except *
    cpdef Server checkout(self, Borrower borrower)
    @cython.locals(waited="long long")
    cpdef int count_wait(self, Borrower borrower) except -1
    @cython.locals(server=Server)
    cpdef Server _take_idle(self, Borrower borrower)
    @cython.locals(server=Server)
    cdef bint _probe_more(self, Borrower borrower) except -1
    cpdef bint know_sequences(self, str application_name) except -1
    cpdef int learn_sequences(self, str application_name) except -1
    cpdef int checkin(self, Server server) except -1
    @cython.locals(borrower=Borrower)
    cpdef int settle(self, Server server) except -1
    @cython.locals(first=Borrower, row=Row, worker=int)
    cdef bint _goes_over(self, Server server) except -1
    cpdef int rests(self, Server server) except -1
    cpdef bint has_room(self) except -1
    cpdef int welcome(self, Server server) except -1
    cpdef int adopt(self, Server server) except -1
    cpdef void discard(self, Server server, str reason) except *
