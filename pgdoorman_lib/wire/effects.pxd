# C types of wire.effects.

import cython

from pgdoorman_lib.wire.framing cimport int32
from pgdoorman_lib.wire.prepared cimport ClientStatements, ServerStatements
from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.statements cimport Acts, Handle, Registry, Statement, Unnamed


cdef class NamedParse(Effect):
    cdef public ClientStatements client
    cdef public bytes name
    cdef public Statement statement
    cdef public ServerStatements server
    cdef public bint made
    cpdef int done(self) except -1
    cpdef int undone(self, int failed) except -1
    cpdef int renew(self, object books) except -1


cdef class InjectedParse(Effect):
    cdef public Statement statement
    cdef public ServerStatements server
    cpdef int done(self) except -1
    cpdef int undone(self, int failed) except -1
    cpdef int renew(self, object books) except -1


cdef class QueryParse(InjectedParse):
    pass


cdef class AwaitedParse(InjectedParse):
    cdef public bint finished
    cdef public bint failed
    cpdef int done(self) except -1
    cpdef int undone(self, int failed) except -1


cdef class Described(Effect):
    cdef public Statement statement
    cdef public bint portal
    cdef public bytes answer
    cdef public bint broken
    cpdef int done(self) except -1


cdef class Refused(Effect):
    cdef public bytes message


cdef class Verification(Effect):
    cdef public Statement statement
    cdef public Registry registry
    cdef public ServerStatements held
    cdef public bytes answer
    cdef public bint broken
    cdef public bint finished
    cpdef int done(self) except -1
    cpdef int undone(self, int failed) except -1
    cdef bint _same(self) except -1


cdef class Eviction(Effect):
    cdef public Handle handle
    cdef public bint there
    cdef public ServerStatements server
    cpdef int undone(self, int failed) except -1


cdef class NameClosed(Effect):
    cdef public ClientStatements client
    cdef public bytes name
    cdef public Statement statement
    cpdef int undone(self, int failed) except -1


cdef class UnnamedEffect(Effect):
    cdef public ClientStatements client
    cdef public ServerStatements server
    cdef public Unnamed old_client
    cdef public Unnamed old_server
    @cython.final
    cdef int begin(self, ClientStatements client, ServerStatements server) except -1
    @cython.final
    cdef tuple step_back(self)
    @cython.final
    cdef int step_on(self, tuple now) except -1


cpdef UnnamedEffect first_unnamed(list effects)
@cython.locals(unnamed=UnnamedEffect, effect=Effect, position=Py_ssize_t)
cpdef int take_back(list voided, int failed, list behind) except -1


cdef class UnnamedParse(UnnamedEffect):
    cdef public Unnamed statement
    cpdef int enter(self, ClientStatements client, ServerStatements server, Unnamed statement) except -1
    cpdef int undone(self, int failed) except -1


cdef class UnnamedInjected(Effect):
    cdef public ServerStatements server
    cdef public Unnamed old_server
    cpdef int undone(self, int failed) except -1


@cython.locals(statement=Unnamed, effect=UnnamedParse)
cpdef UnnamedParse unnamed_parse(ClientStatements client, ServerStatements server, bytes body, Acts acts)
@cython.locals(effect=UnnamedParse)
cpdef UnnamedParse unnamed_close(ClientStatements client, ServerStatements server)
