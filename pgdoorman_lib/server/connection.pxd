# C types of server.connection.

import cython

from pgdoorman_lib.metrics.counters cimport LinkStats
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.server cimport states
from pgdoorman_lib.server.unanswered cimport Unanswered
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.prepared cimport ServerStatements
from pgdoorman_lib.wire.replies cimport Replies

cdef unsigned long long _legal


@cython.final
cdef class Server:
    cdef public long id
    cdef public Stream stream
    cdef public object settings
    cdef public long pid
    cdef public bytes secret
    cdef public object reported
    cdef public double created_at
    cdef public double expires_at
    cdef public double idle_since
    cdef public double active_since
    cdef public Replies replies
    cdef public ServerStatements statements
    cdef public object applied
    cdef public object base
    cdef public int backend
    cdef public str loaded
    cdef public int dirty
    cdef public int unasked
    cdef public Unanswered unanswered
    cdef public object reading
    cdef public int reading_flags
    cdef public int pins
    cdef public long drawn_by
    cdef public set option_names
    cdef public str condemned
    cdef public int cancels
    cdef public bint fatal_received
    cdef readonly int stage
    cdef public object pool
    cdef public LinkStats stats
    cdef public object login_application_name
    cpdef int enter(self, int stage) except -1
    cpdef int condemn(self, str reason) except -1
    cpdef int report(self, str name, str value) except -1
    cpdef bint is_reusable(self) except -1
