# C types of client.requests.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.client_end cimport ClientEnd
from pgdoorman_lib.client.leftovers cimport Leftovers
from pgdoorman_lib.client.link cimport Turn
from pgdoorman_lib.client.memory cimport taken
from pgdoorman_lib.client.prepared cimport PreparedStatements
from pgdoorman_lib.client.sqlprepare cimport SqlPrepare
from pgdoorman_lib.client.texts cimport Texts
from pgdoorman_lib.client.unnamed cimport UnnamedStatement
from pgdoorman_lib.client.without_server cimport WithoutServer
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.wire cimport consts, owed
from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.framing cimport find_nul, frame_size
from pgdoorman_lib.wire.replies cimport Replies, owed_for

cdef bytearray FLUSH
cdef Py_ssize_t HIGH_WATER
cdef Py_ssize_t INSPECT
cdef int FAIRNESS


@cython.final
cdef class Requests:
    cdef public Turn turn
    cdef public Texts texts
    cdef public SqlPrepare sqlprepare
    cdef public UnnamedStatement unnamed
    cdef public PreparedStatements prepared
    cdef public Leftovers leftovers
    cdef public ClientEnd client_end
    cdef public WithoutServer without_server

    @cython.locals(client=Stream, fills=int, status=int, n=Py_ssize_t)
    cpdef int pump_client(self) except -1
    @cython.final
    @cython.locals(client=Stream, size=Py_ssize_t, block=bytearray)
    cdef bint _make_room(self) except -1
    @cython.final
    @cython.locals(
        client=Stream, data=bytearray, pos=Py_ssize_t, end=Py_ssize_t, run=Py_ssize_t, status=int, avail=Py_ssize_t,
        size=Py_ssize_t, kind=int, replies=Replies, late=int, past=Py_ssize_t, first=Py_ssize_t, told="long long",
        whole=bint,
    )
    cdef int _client_frames(self) except -1
    @cython.final
    @cython.locals(start=Py_ssize_t, stop=Py_ssize_t)
    cdef int _parse_text(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except -1
    @cython.final
    @cython.locals(replies=Replies)
    cdef bint _free(self) except -1
    @cython.final
    @cython.locals(size=Py_ssize_t, client=Stream, block=bytearray)
    cdef int _to_server(self, Py_ssize_t run, Py_ssize_t pos) except -1
