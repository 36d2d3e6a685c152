# C types of wire.lexer.

import cython

from pgdoorman_lib.wire.source cimport Source


cdef bytes _CLASSES
cdef bytes _FOLDED
cdef int _SHORT
cdef int LONGEST_KEPT


cdef class Lexer(Source):
    @cython.locals(text="const unsigned char *", classes="const unsigned char *", folded="const unsigned char *", end=Py_ssize_t, position=Py_ssize_t, start=Py_ssize_t, c=int, kind=int, status=int, value="unsigned int")
    cpdef int next(self) except -1
    @cython.final
    @cython.locals(text="const unsigned char *", letter=int)
    cdef int _prefixed(self, Py_ssize_t start, Py_ssize_t position) except -2
    @cython.final
    cdef int _open(self, int kind, int mode, Py_ssize_t position) except -1
    @cython.final
    @cython.locals(text=bytearray, end=Py_ssize_t, mode=int, found=Py_ssize_t, quote=int, value="unsigned int", looked_at=int, c=int, again=Py_ssize_t)
    cdef int _pass_quoted(self, Py_ssize_t position) except -1
    @cython.final
    @cython.locals(text="const unsigned char *", end=Py_ssize_t, newline=bint, dashes=int, c=int)
    cdef Py_ssize_t _continued(self, Py_ssize_t position) except -3
    @cython.final
    @cython.locals(data=bytearray, end=Py_ssize_t)
    cdef int _pass_comment(self, Py_ssize_t position) except -1
    @cython.final
    cdef int _pass_word(self, Py_ssize_t position) except -1
    @cython.final
    @cython.locals(text="const unsigned char *", end=Py_ssize_t, at=Py_ssize_t)
    cdef int _dollar(self, Py_ssize_t position) except -1
