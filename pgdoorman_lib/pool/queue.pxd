# C types of pool.queue.

import cython

from pgdoorman_lib.net.engine cimport Task
from pgdoorman_lib.net.pollable cimport Pollable
from pgdoorman_lib.server.connection cimport Server

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
    cdef public set option_names
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
