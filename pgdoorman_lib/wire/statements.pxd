# C types of wire.statements.

import cython


cdef double BELIEVED
cdef Py_ssize_t OVERHEAD
cdef Tally _remembered
cdef long long _newest
cdef bytes _process
cdef object _handles
cdef object _statements

cpdef bytes digest_of(bytes body, object environment)
@cython.locals(stamp="long long")
cpdef bytes shared_name(bytes digest, double now)
cpdef bytes private_name()


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
    cdef public object row

    cpdef int count(self, long long change) except -1


cdef class Handle:
    cdef public bytes name
    cdef public bytearray cname
    cdef public Py_ssize_t size
    cdef public Py_ssize_t users
    cdef public bint current
    cdef public Py_hash_t line
    cdef public bint abroad
    cdef object __weakref__
    cpdef bytearray close_message(self)


cdef class Statement:
    cdef object __weakref__
    cdef public bytes name
    cdef public Handle handle
    cdef public bytearray cname
    cdef public bytes body
    cdef public Acts acts
    cdef public bint by_sql
    cdef public bint confirmed
    cdef public bytes description
    cdef public bytes shape
    cdef public object told
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


@cython.freelist(32)
cdef class Unnamed:
    cdef public object body
    cdef public object seen
    cdef public Acts acts
    cdef public int suspect


cdef class Registry:
    cdef object __weakref__
    cdef public Py_ssize_t capacity
    cdef public Py_ssize_t capacity_bytes
    cdef public Py_ssize_t bytes
    cdef public object known
    @cython.locals(statement=Statement, digest=bytes)
    cpdef Statement get(self, bytes body, object environment, Acts acts=*, double now=*)
    @cython.locals(found=Statement)
    cpdef Statement find(self, bytes body, object environment, double now=*)
    cpdef int discard(self, Statement statement) except -1
    @cython.locals(statement=Statement)
    cpdef int forget(self) except -1
    @cython.locals(statement=Statement)
    cpdef int _remove(self, object key) except -1
    cpdef Statement private(self, bytes body, Acts acts=*, int by_sql=*)
