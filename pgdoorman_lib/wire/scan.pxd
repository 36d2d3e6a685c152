# C types of wire.scan.

import cython

from pgdoorman_lib.wire.lexer cimport Lexer


cdef int _LONG


cdef class Lexicon:
    cdef public dict hazards
    cdef public dict named
    cdef public frozenset written
    cdef public frozenset calls
    cdef public dict known
    cdef public bint names_matter
    cdef public bytearray table


cdef class Scanner(Lexer):
    cdef public Lexicon lexicon
    cdef public bytearray table
    cdef public dict known
    cdef public bint begins
    cdef public bint doubts
    cdef public int inserting
    cdef public bint writing

    cpdef int use(self, Lexicon lexicon) except -1
    @cython.locals(found=int)
    cpdef int scan(self, bytearray data, Py_ssize_t start, Py_ssize_t end, int reading) except -1
    @cython.locals(table="const unsigned char *", text="const unsigned char *", begins=bint, kind=int, mark=int, at=Py_ssize_t)
    cpdef int seek(self) except -1
    @cython.final
    cdef bint _is_meant(self) except -1
    cpdef bytes word(self)
    @cython.final
    cdef bint _is_temporary(self, Py_ssize_t at) except -1


cdef bint _not_ascii(bytearray data, Py_ssize_t start, Py_ssize_t end) except -1
