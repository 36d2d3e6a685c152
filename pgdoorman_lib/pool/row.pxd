# C types of pool.row.

import cython

cdef int _HELD
cdef int _ELSEWHERE
cdef int _RESTING
cdef int _WAITING
cdef int _SINCE
cdef int _CLAIMED
cdef int _WIDTH
cdef double _RATIO


@cython.final
cdef class Row:
    cdef public object ledger
    cdef public int number
    cdef public int worker
    cdef public long long[::1] cells
    cdef public Py_ssize_t held
    cdef public Py_ssize_t elsewhere
    cdef public Py_ssize_t aside
    cdef public bint shy
    cdef public double margin
    cdef public object heard
    cdef Py_ssize_t _mine
    cdef Py_ssize_t _end
    @cython.locals(found=Py_ssize_t, at=Py_ssize_t)
    cpdef Py_ssize_t total(self) except -1
    cpdef bint take(self, Py_ssize_t limit) except -1
    cpdef int line_is(self, Py_ssize_t waiting, double since) except -1
    cpdef int rest_is(self, Py_ssize_t resting) except -1
    cpdef int set_aside(self, Py_ssize_t change, Py_ssize_t resting) except -1
    @cython.locals(found=Py_ssize_t, at=Py_ssize_t)
    cpdef Py_ssize_t rests_elsewhere(self) except -1
    cpdef Py_ssize_t announced(self, int event) except -1
    @cython.locals(oldest="long long", theirs="long long", found=Py_ssize_t, at=Py_ssize_t, own=double, waited=double)
    cpdef int turn_of(self, double since, double now) except -1
