# C types of wire.prepared.

import cython

from pgdoorman_lib.wire.replies cimport Effect


cdef double _BELIEVED
cdef Py_ssize_t _OVERHEAD
cdef Py_ssize_t _LARGE
cdef Tally _remembered


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


cdef class Tally:
    cdef public long long bytes


cdef class Handle:
    cdef public bytes name
    cdef public bytearray cname
    cdef public Py_ssize_t size
    cdef public Py_ssize_t users
    cdef public bint current
    cdef public Py_hash_t line
    cpdef bytearray close_message(self)


cdef class Statement:
    cdef public bytes name
    cdef public Handle handle
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
    cdef public double analysed_at
    cdef public bint suspect
    cdef public object seen
    cpdef bytearray parse_message(self)
    cpdef bytes sql(self)
    cpdef bytes prepare_sql(self)
    cpdef bytearray close_message(self)
    @cython.locals(handle=Handle)
    cpdef int hold(self) except -1
    @cython.locals(handle=Handle)
    cpdef int drop(self) except -1


cdef class Registry:
    cdef object __weakref__
    cdef public Py_ssize_t capacity
    cdef public Py_ssize_t capacity_bytes
    cdef public Py_ssize_t bytes
    cdef public object known
    @cython.locals(statement=Statement)
    cpdef Statement get(self, bytes body, object environment, Acts acts=*, double now=*)
    @cython.locals(found=Statement)
    cpdef Statement find(self, bytes body, object environment, double now=*)
    cpdef int discard(self, Statement statement) except -1
    @cython.locals(statement=Statement)
    cpdef int forget(self) except -1
    @cython.locals(statement=Statement)
    cpdef int _remove(self, object key) except -1
    cpdef Statement private(self, bytes body, Acts acts=*, int by_sql=*)


@cython.freelist(32)
cdef class Unnamed:
    cdef public object body
    cdef public object seen
    cdef public Acts acts
    cdef public int suspect


cdef class ClientStatements:
    cdef public dict names
    cdef public Unnamed unnamed
    cdef public bint released
    @cython.locals(before=Statement)
    cpdef int enter(self, bytes name, Statement statement) except -1
    @cython.locals(statement=Statement)
    cpdef Statement leave(self, bytes name)
    cpdef int clear(self, object pending) except -1
    cpdef int release(self) except -1


cdef class ServerStatements:
    cdef public Py_ssize_t capacity
    cdef public Py_ssize_t capacity_bytes
    cdef public object prepared
    cdef public Py_ssize_t bytes
    cdef public Unnamed unnamed
    cdef public bint doubtful
    cdef public dict versions
    cdef public list outdated
    cdef public list spare
    cdef public Py_ssize_t patience
    cpdef int has(self, Statement statement) except -1
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
    cpdef int clear(self, object pending=*) except -1
    cpdef int doubt(self, object pending) except -1


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
    cdef public bytes answer
    cdef public bint broken
    cdef public bint finished
    cpdef int done(self) except -1
    cpdef int undone(self, int failed) except -1


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
