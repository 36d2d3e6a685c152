# C types of metrics.counters.

import cython

cdef long long _MAX_VALUE


@cython.final
cdef class Histogram:
    cdef public long long[:] buckets
    cdef public long long count
    cdef public long long total
    @cython.locals(shift=int)
    cpdef add(self, long long us)


@cython.final
cdef class PoolStats:
    cdef public long long xact_count
    cdef public long long query_count
    cdef public long long received
    cdef public long long sent
    cdef public long long xact_time
    cdef public long long query_time
    cdef public long long wait_time
    cdef public long long errors
    cdef public long long asked
    cdef public long long asked_unknown
    cdef public long long client_login_count
    cdef public long long prepare_hit
    cdef public long long prepare_miss
    cdef public long long assignments
    cdef public long long client_parses
    cdef public long long binds
    cdef public Histogram query_hist
    cdef public Histogram xact_hist
    cdef public Histogram wait_hist


@cython.final
cdef class LinkStats:
    cdef public long long xact_count
    cdef public long long query_count
    cdef public long long errors
    cdef public long long received
    cdef public long long sent
    cdef public long long prepare_hit
    cdef public long long prepare_miss


@cython.final
cdef class ConnectionStats:
    cdef public long long total
    cdef public long long errors
    cdef public long long tls
    cdef public long long plain
    cdef public long long cancel
