# C types of pool.pool.

import cython

from pgdoorman_lib.metrics.counters cimport PoolStats
from pgdoorman_lib.net.engine cimport Engine, Task
from pgdoorman_lib.net.line cimport Line
from pgdoorman_lib.net.pollable cimport Pollable
from pgdoorman_lib.net.syscalls cimport clock
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.statements cimport Registry
from pgdoorman_lib.wire.scan cimport Scanner

cdef int _NEAR


cdef class Borrower(Pollable):
    cdef public Task task
    cdef public Server assigned
    cdef public object wait_error
    cdef public double waiting_since
    cdef public Borrower behind
    cdef public long number
    cdef public bint drawing
    cdef public object settings
    cpdef int init_borrower(self) except -1
    cpdef int set(self, Server server) except -1
    cpdef int fail(self, BaseException error) except -1


@cython.final
cdef class Waiters:
    cdef public Borrower first
    cdef public Borrower last
    cdef public Py_ssize_t count
    cdef public int passed
    cpdef int add(self, Borrower borrower) except -1
    @cython.locals(borrower=Borrower)
    cpdef Borrower take(self)
    @cython.locals(before=Borrower, borrower=Borrower)
    cpdef Borrower take_with(self, object settings)
    @cython.locals(before=Borrower, one=Borrower)
    cpdef int remove(self, Borrower borrower) except -1
    cpdef int _unlink(self, Borrower borrower, Borrower before) except -1


@cython.final
cdef class Pool:
    cdef public object settings
    cdef public Engine engine
    cdef public object connect
    cdef public object tidy
    cdef public Py_ssize_t size
    cdef public double timeout
    cdef public bint lifo
    cdef public Line idle
    cdef public double check_after
    cdef public Py_ssize_t parallel
    cdef public Waiters waiters
    cdef public set servers
    cdef public Py_ssize_t borrowed
    cdef public Py_ssize_t opening
    cdef public int pinned
    cdef public int unpinning
    cdef public int max_pinned
    cdef public object paused
    cdef public bint by_transaction
    cdef public bint shared
    cdef public bint sync_parameters
    cdef public bint transparent
    cdef public bint log_parameters
    cdef public Py_ssize_t parse_limit
    cdef public bint retired
    cdef public double backoff
    cdef public double retry_at
    cdef public object last_error
    cdef public object expiry
    cdef public object retry
    cdef public object sequences
    cdef public Registry registry
    cdef public Scanner scanner
    cdef public PoolStats stats
    cdef public object base
    cdef public object reported
    cdef public double heard_at
    cdef public dict reports
    cdef public object carried
    cdef public object login_parameters
    cdef public bint moved
    cdef public object refusal
    cdef public double eof_timeout
    cdef public object credentials
    cdef public object database
    cdef object __weakref__

    @cython.locals(server=Server, now=double)
    cpdef int request(self, Borrower borrower) except -1
    cpdef int withdraw(self, Borrower borrower) except -1
    cpdef Server checkout(self, Borrower borrower)
    @cython.locals(waited="long long")
    cpdef int _count_wait(self, Borrower borrower) except -1
    @cython.locals(server=Server)
    cpdef Server _take_idle(self, Borrower borrower)
    cpdef int learn_sequences(self, str application_name) except -1
    cpdef int checkin(self, Server server) except -1
    @cython.locals(borrower=Borrower, accepted=int)
    cpdef int settle(self, Server server) except -1
    cpdef int learn(self, Server server) except -1
    cpdef int hears(self, str name, str value) except -1
    cpdef int stale(self) except -1
    cpdef int backend_moved(self, Server server, int process) except -1
    cpdef int _rest(self, Server server) except -1
    cpdef int discard(self, Server server, str reason) except -1
    cpdef int grow(self, double now) except -1
    cpdef int start_opening(self) except -1
