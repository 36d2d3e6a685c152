# C types of wire.source.

import cython


cdef int LONGEST_KEPT


cdef class Source:
    cdef public bytearray data
    cdef public bytes rest
    cdef public bytes tag
    cdef public Py_ssize_t position
    cdef public Py_ssize_t end
    cdef public Py_ssize_t start
    cdef public Py_ssize_t stop
    cdef public Py_ssize_t depth
    cdef public unsigned int hash
    cdef public int mode
    cdef public int pending
    cdef public int prefix
    cdef public bint backslashes
    cdef public bint final
    cdef public int incomplete

    cpdef int begin(self, bytearray data, Py_ssize_t start, Py_ssize_t end, bint backslashes) except -1
    cpdef int begin_parts(self, bint backslashes) except -1
    @cython.locals(joined=bytearray)
    cpdef void feed(self, bytearray data, Py_ssize_t start, Py_ssize_t end, bint last) except *
    @cython.final
    cdef int _wait(self, Py_ssize_t position) except -1
    @cython.final
    cdef int _cut(self, Py_ssize_t position) except -1
    @cython.final
    cdef int _lose(self) except -1
