# C types of wire.prepared.

import cython

from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.statements cimport Acts, Handle, Statement, Unnamed


cdef Py_ssize_t LARGE


cdef class ClientStatements:
    cdef public dict names
    cdef public Unnamed unnamed
    cdef public bint released
    @cython.locals(before=Statement)
    cpdef int enter(self, bytes name, Statement statement) except -1
    @cython.locals(statement=Statement)
    cpdef Statement leave(self, bytes name)
    @cython.locals(effect=Effect)
    cpdef int clear(self, object pending) except -1
    cpdef int release(self) except -1


cdef class ServerStatements:
    cdef public Py_ssize_t capacity
    cdef public Py_ssize_t capacity_bytes
    cdef public object prepared
    cdef public Py_ssize_t bytes
    cdef public Unnamed unnamed
    cdef public bint doubtful
    cdef public dict foreign
    cdef public dict versions
    cdef public list outdated
    cdef public list spare
    cdef public Py_ssize_t patience
    cpdef bint has(self, Statement statement) except -1
    @cython.locals(handle=Handle)
    cpdef int enter(self, Statement statement) except -1
    cpdef int leave(self, Handle handle) except -1
    cpdef int touch(self, Statement statement) except -1
    @cython.locals(older=Handle)
    cpdef int supersede(self, Statement statement) except -1
    @cython.locals(victim=Handle, handle=Handle, statement=Statement, full=bint)
    cpdef Handle surplus(self, Acts acts=*, Py_ssize_t size=*)
    @cython.locals(handle=Handle)
    cpdef Handle _abandoned(self)
    @cython.locals(effect=Effect)
    cpdef int clear(self, object pending=*) except -1
    cpdef int doubt(self, object pending) except -1
