# C types of wire.prepared.

import cython

from pgdoorman_lib.wire.replies cimport Effect


cdef class Acts:
    cdef public object text
    cdef public bytes original
    cdef public bytes sql
    cdef public list edits
    cdef public list resolved
    cdef public list needs
    cdef public list creates
    cdef public list drops
    cdef public list stand_ins
    cdef public list taken


cdef class Statement:
    cdef public bytes name
    cdef public bytearray cname
    cdef public bytes body
    cdef public Acts acts
    cdef public bint by_sql
    cdef public bint confirmed
    cdef public bytes description
    cdef public bytes shape
    cdef public object environment
    cdef public tuple instead
    cdef public bint stale
    cpdef bytearray parse_message(self)
    cpdef bytes prepare_sql(self)
    cpdef bytearray close_message(self)


cdef class Registry:
    cdef object __weakref__
    cdef public Py_ssize_t capacity
    cdef public object known
    @cython.locals(statement=Statement)
    cpdef Statement get(self, bytes body, object environment, Acts acts=*)
    cpdef Statement find(self, bytes body, object environment)
    cpdef int forget(self) except -1
    cpdef Statement private(self, bytes body, Acts acts=*, int by_sql=*)


@cython.freelist(32)
cdef class Unnamed:
    cdef public object body
    cdef public Acts acts


cdef class ClientStatements:
    cdef public dict names
    cdef public Unnamed unnamed
    cpdef int clear(self, object pending) except -1


cdef class ServerStatements:
    cdef public Py_ssize_t capacity
    cdef public object prepared
    cdef public Unnamed unnamed
    cpdef int touch(self, Statement statement) except -1
    cpdef Statement surplus(self, Acts acts=*)
    cpdef int clear(self, object pending=*) except -1


cdef class NamedParse(Effect):
    cdef public ClientStatements client
    cdef public bytes name
    cdef public Statement statement
    cdef public ServerStatements server
    cdef public bint made
    cpdef int done(self) except -1
    cpdef int undone(self, int failed) except -1


@cython.freelist(8)
cdef class InjectedParse(Effect):
    cdef public Statement statement
    cdef public ServerStatements server
    cpdef int done(self) except -1
    cpdef int undone(self, int failed) except -1


cdef class QueryParse(InjectedParse):
    pass


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
    cdef public bytes answer
    cdef public bint broken
    cdef public bint finished
    cpdef int done(self) except -1
    cpdef int undone(self, int failed) except -1


cdef class Eviction(Effect):
    cdef public Statement statement
    cdef public ServerStatements server
    cpdef int undone(self, int failed) except -1


cdef class NameClosed(Effect):
    cdef public ClientStatements client
    cdef public bytes name
    cdef public Statement statement
    cpdef int undone(self, int failed) except -1


@cython.freelist(32)
cdef class UnnamedParse(Effect):
    cdef public ClientStatements client
    cdef public ServerStatements server
    cdef public Unnamed statement
    cdef public Unnamed old_client
    cdef public Unnamed old_server
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
