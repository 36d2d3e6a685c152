# C types of wire.lexer.

import cython


cdef bytes _CLASSES
cdef bytes _FOLDED
cdef int _SHORT
cdef int _LONG


cdef class Lexer:
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
    cpdef int feed(self, bytearray data, Py_ssize_t start, Py_ssize_t end, bint last) except -1
    @cython.locals(text="const unsigned char *", classes="const unsigned char *", folded="const unsigned char *", end=Py_ssize_t, position=Py_ssize_t, start=Py_ssize_t, c=int, kind=int, status=int, value="unsigned int")
    cpdef int next(self) except -1
    @cython.final
    cdef int _wait(self, Py_ssize_t position) except -1
    @cython.final
    @cython.locals(text="const unsigned char *", letter=int)
    cdef int _prefixed(self, Py_ssize_t start, Py_ssize_t position) except -2
    @cython.final
    cdef int _open(self, int kind, int mode, Py_ssize_t position) except -1
    @cython.final
    @cython.locals(text=bytearray, end=Py_ssize_t, mode=int, found=Py_ssize_t, quote=int, value="unsigned int", looked_at=int, c=int, again=Py_ssize_t)
    cdef int _pass_quoted(self, Py_ssize_t position) except -1
    @cython.final
    cdef int _cut(self, Py_ssize_t position) except -1
    @cython.final
    @cython.locals(text="const unsigned char *", end=Py_ssize_t, newline=bint, dashes=int, c=int)
    cdef Py_ssize_t _continued(self, Py_ssize_t position) except -3
    @cython.final
    @cython.locals(data=bytearray, end=Py_ssize_t)
    cdef int _pass_comment(self, Py_ssize_t position) except -1
    @cython.final
    cdef int _lose(self) except -1
    @cython.final
    cdef int _pass_word(self, Py_ssize_t position) except -1
    @cython.final
    @cython.locals(text="const unsigned char *", end=Py_ssize_t, at=Py_ssize_t)
    cdef int _dollar(self, Py_ssize_t position) except -1
