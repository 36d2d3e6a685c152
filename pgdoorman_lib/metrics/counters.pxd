# C types of metrics.counters.

import cython

cdef long long MAX_VALUE
cdef int BUCKETS
cdef int BOUNDS
cdef unsigned int _MASK


cpdef bucket_floor(long long index)


@cython.final
cdef class Histogram:
    cdef public long long bound
    cdef public unsigned int[:] buckets
    cdef public long long[:] within
    cdef public long long count
    cdef public long long total
    @cython.locals(shift=int, place=int, bound="long long")
    cpdef add(self, long long us)
    cpdef Histogram copy(self)
    @cython.locals(place=int, index=int)
    cpdef merge(self, Histogram other)
    @cython.locals(newer=Histogram, place=int, index=int)
    cpdef Histogram since(self, Histogram older)
    @cython.locals(rank="long long", below="long long", index=int, floor="long long")
    cpdef percentile(self, double percent)


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
    cdef public long long client_login_count
    cdef public long long prepare_hit
    cdef public long long prepare_miss
    cdef public long long wait_count
    cdef public long long open_count
    cdef public long long open_failures
    cdef public long long asked
    cdef public long long asked_unknown
    cdef public long long assignments
    cdef public long long client_parses
    cdef public long long binds
    cdef public Histogram query_hist
    cdef public Histogram xact_hist
    cdef public Histogram wait_hist
    cdef public dict sqlstates

    cpdef int count_error(self, str sqlstate) except -1


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
    cdef public long long passed_on
    cdef public long long not_passed_on
    cdef public dict rejected


@cython.final
cdef class OpeningStats:
    cdef public Histogram tcp_connect
    cdef public Histogram tls
    cdef public Histogram auth
    cdef public Histogram startup
