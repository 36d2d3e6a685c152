# C types of net.line.

import cython


@cython.final
cdef class Line:
    cdef public object top
    cdef public list items
    cdef public Py_ssize_t older
    cpdef Py_ssize_t size(self) except -1
    cpdef int add(self, object item) except -1
    cpdef object take(self)
    cpdef object take_first(self)
    cpdef void remove(self, object item) except *
