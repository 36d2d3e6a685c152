# C types of client.prepared.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.deployment cimport Deployment
from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.client.memory cimport taken
from pgdoorman_lib.client.sqlprepare cimport SqlPrepare
from pgdoorman_lib.client.texts cimport Texts
from pgdoorman_lib.client.unnamed cimport UnnamedStatement, unsettling
from pgdoorman_lib.net.engine cimport Engine
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.net.syscalls cimport cut
from pgdoorman_lib.wire cimport consts, owed
from pgdoorman_lib.wire.effects cimport Described, NameClosed, NamedParse, Refused, unnamed_parse
from pgdoorman_lib.wire.framing cimport find_nul, put_header
from pgdoorman_lib.wire.prepared cimport ServerStatements
from pgdoorman_lib.wire.replies cimport Replies, owed_for
from pgdoorman_lib.wire.statements cimport Acts, Statement

cdef bytearray _scratch
cdef bytearray PARSE_COMPLETE
cdef bytearray CLOSE_COMPLETE
cdef bytearray _nobody
cdef Py_ssize_t MAX_SHARED
cdef Py_ssize_t MAX_NAME
cdef Py_ssize_t BLOCK_SIZE
cdef Py_ssize_t MAX_USED
cdef Py_ssize_t OVERHEAD


@cython.final
cdef class PreparedStatements:
    cdef public Turn turn
    cdef public Deployment deployment
    cdef public Texts texts
    cdef public SqlPrepare sqlprepare
    cdef public UnnamedStatement unnamed

    @cython.final
    @cython.locals(
        replies=Replies, stop=Py_ssize_t, begin=Py_ssize_t, name_end=Py_ssize_t, name=bytes, statement=Statement,
        closed=NameClosed,
    )
    cdef int statement(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, int kind) except -1
    @cython.final
    @cython.locals(
        replies=Replies, held=ServerStatements, status=int, stop=Py_ssize_t, name=bytes, body=bytes, statement=Statement,
        message=bytearray, acts=Acts, named=bint, private=bint, suspect=bint, now=double,
    )
    cdef int _parse(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, Py_ssize_t name_end) except -1
    @cython.final
    @cython.locals(before=Statement)
    cdef int _uses(self, Statement statement) except -1
    @cython.locals(statement=Statement)
    cpdef int doubt_used(self) except -1
    @cython.final
    cdef int _refuse(self, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.final
    @cython.locals(srv=Stream, head=bytearray)
    cdef int _send_renamed(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail, int kind, Py_ssize_t begin, Py_ssize_t name_end, bytearray cname) except -1
    @cython.final
    @cython.locals(engine=Engine, block=bytearray, wanted="long long")
    cdef bint _overfull(self, Py_ssize_t size) except -1
    @cython.locals(code=int)
    cpdef int emit_made(self) except -1
