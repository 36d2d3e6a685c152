# C types of pool.queue.

import cython

from pgdoorman_lib.net.engine cimport Engine, Task
from pgdoorman_lib.net.line cimport Line
from pgdoorman_lib.net.pollable cimport Pollable
from pgdoorman_lib.pool.row cimport Row
from pgdoorman_lib.server.connection cimport Server

cdef int NEAR


cdef class Borrower(Pollable):
    cdef public Task task
    cdef public Server assigned
    cdef public object wait_error
    cdef public double waiting_since
    cdef public Borrower behind
    cdef public long number
    cdef public bint drawing
    cdef public object settings
    cdef public set option_names
    cpdef int init_borrower(self) except -1
    cpdef int set(self, Server server) except -1
    cpdef int fail(self, BaseException error) except -1
    cpdef int park(self) except -1
    cpdef Server result(self)


@cython.final
cdef class ServerQueue:
    cdef public Engine engine
    cdef public bint lifo
    cdef public bint by_settings
    cdef public Line resting
    cdef public Borrower first
    cdef public Borrower last
    cdef public Py_ssize_t waiting
    cdef public int passed
    cdef public Row row
    cpdef Py_ssize_t qsize(self) except -1
    @cython.locals(borrower=Borrower)
    cpdef Borrower put(self, Server server)
    @cython.locals(server=Server)
    cpdef Server get_nowait(self)
    cpdef void remove(self, Server server) except *
    cpdef int join(self, Borrower borrower) except -1
    @cython.locals(before=Borrower, one=Borrower)
    cpdef int leave(self, Borrower borrower) except -1
    @cython.locals(borrower=Borrower)
    cpdef Borrower next(self)
    @cython.locals(before=Borrower, borrower=Borrower)
    cpdef Borrower _next_for(self, object settings)
    cpdef int _unlink(self, Borrower borrower, Borrower before) except -1
    @cython.locals(row=Row, first=Borrower)
    cdef int _show_line(self) except -1
