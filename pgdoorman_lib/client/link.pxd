# C types of client.link.

import cython

from pgdoorman_lib.client.batch cimport Batch
from pgdoorman_lib.metrics.counters cimport LinkStats, PoolStats
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.pool.database cimport Database
from pgdoorman_lib.pool.pool cimport Pool
from pgdoorman_lib.pool.queue cimport Borrower
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.prepared cimport ClientStatements
from pgdoorman_lib.wire.replies cimport Replies
from pgdoorman_lib.wire.scan cimport Scanner
from pgdoorman_lib.wire.statements cimport Registry

cdef Scanner _no_words
cdef Database _nothing_known


cdef class Owner(Borrower):
    cdef public bint drew
    cdef public bint asked_sequences

    cpdef int init_owner(self) except -1
    cpdef object label(self)


@cython.final
cdef class Link:
    cdef public Owner owner
    cdef public Stream client
    cdef public Server server
    cdef public Stream srv
    cdef public Replies replies
    cdef public Batch batch
    cdef public Pool pool
    cdef public PoolStats pool_stats
    cdef public Registry registry
    cdef public Database knowledge
    cdef public Scanner scanner
    cdef public bint by_transaction
    cdef public bint shared
    cdef public bint sync_parameters
    cdef public bint transparent
    cdef public bint log_parameters
    cdef public bint noted
    cdef public bint client_drop
    cdef public bint server_drop
    cdef public bint terminated
    cdef public bint half_closed
    cdef public bint overdue
    cdef public int pins
    cdef public int forgotten
    cdef public bint warned
    cdef public long process
    cdef public Py_ssize_t parse_limit
    cdef public Py_ssize_t client_left
    cdef public Py_ssize_t server_left
    cdef public double query_started
    cdef public double xact_started
    cdef public LinkStats stats
    cdef public ClientStatements statements
    cdef public object startup
    cdef public object base
    cdef public object told
    cdef public bytes check_query
    cdef public object health
    cdef public object tracker
    cdef public object fault
    cdef public object fault_sqlstate

    cpdef int use(self, Pool pool) except -1
    cpdef int use_health(self, Pool pool) except -1
    cpdef int begin_with(self, object settings, object told, object base) except -1
    cpdef int attach(self, Server server) except -1
    cpdef int detach(self) except -1
    @cython.final
    @cython.locals(client=Stream, server=Server, stats=LinkStats, received="long long", sent="long long")
    cdef int account(self) except -1
    cpdef object notes(self)
    @cython.final
    cdef int names_done(self) except -1
    @cython.final
    cdef bint has_failed(self) except -1
    @cython.final
    cdef int to_server_part(self, Py_ssize_t run, Py_ssize_t pos) except -1


@cython.final
cdef class Turn:
    cdef public Link link
    cdef public Batch batch

    @cython.final
    cdef int take(self, Link link) except -1
    @cython.final
    cdef int end(self) except -1
