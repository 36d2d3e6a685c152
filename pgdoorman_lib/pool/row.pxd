# C types of pool.row.

import cython

cdef int _HELD
cdef int _ELSEWHERE
cdef int _RESTING
cdef int _WAITING
cdef int _SINCE
cdef int _CLAIMED
cdef int _DEMAND
cdef int _LOOKING
cdef int _NEWS
cdef int _WIDTH
cdef double _RATIO
cdef double _RATIO_OF_NONE
cdef double _STUCK
cdef double _ONE
cdef double _SLACK
cdef double _CLEARLY
cdef int _PARTS
cdef int _LATELY


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
    cdef public double look_at
    cdef public object heard
    cdef Py_ssize_t _mine
    cdef Py_ssize_t _end
    @cython.locals(found=Py_ssize_t, at=Py_ssize_t)
    cpdef Py_ssize_t total(self) except -1
    cpdef bint take(self, Py_ssize_t limit) except -1
    cpdef int count(self, long long change) except -1
    cpdef int line_is(self, Py_ssize_t waiting, double since) except -1
    cpdef int rest_is(self, Py_ssize_t resting) except -1
    cpdef int set_aside(self, Py_ssize_t change, Py_ssize_t resting) except -1
    @cython.locals(found=Py_ssize_t, at=Py_ssize_t)
    cpdef Py_ssize_t rests_elsewhere(self) except -1
    cpdef Py_ssize_t announced(self, int event) except -1
    cpdef int turn_of(self, double since, double now) except -1
    @cython.locals(oldest="long long", theirs="long long", found=Py_ssize_t, at=Py_ssize_t)
    cdef int _oldest(self, bint in_turn, double since, double now) except -1
    @cython.locals(own=double)
    cdef bint _is_next(self, Py_ssize_t at, double waited, double since, double now) except -1
    @cython.locals(at=Py_ssize_t)
    cdef int _note_demand(self) except -1
    @cython.locals(load=Py_ssize_t)
    cdef Py_ssize_t _load(self, Py_ssize_t at) except? -1
    @cython.locals(now="long long", lately="long long")
    cdef Py_ssize_t _demand(self, Py_ssize_t at) except -1
    @cython.locals(ours="long long", theirs="long long", both="long long", there="long long")
    cdef double _surplus(self, Py_ssize_t at) except? -1
    @cython.locals(ours="long long", theirs="long long")
    cdef bint _is_clearly_worse_off(self, Py_ssize_t at) except -1
    cpdef int first_elsewhere(self) except -1
    @cython.locals(at=Py_ssize_t)
    cpdef bint rest_unaware(self) except -1
    cdef bint _is_aware(self, Py_ssize_t at) except -1
