# C types of client.login.

from pgdoorman_lib.auth.verify cimport Candidate, authenticate, method_for
from pgdoorman_lib.wire.startup cimport StartupMessage, parse_startup


cdef class Accepted:
    cdef readonly str user
    cdef readonly str database
    cdef readonly dict parameters
    cdef readonly object protocol
    cdef readonly object admin
    cdef readonly object client_key
    cdef readonly str replication


cpdef login(object stream, object context, object admission, bint tls_refused=*)
cpdef bytes read_startup_packet(object stream)
cdef _first_request(object stream, object context, bint may_ask_tls)
cdef _negotiate(object stream, StartupMessage request)
cdef bint _asks_for_more(StartupMessage request) except -1
cdef Candidate _pool_candidate(str user, str database, object context, str rule)
cdef dict _settings(dict parameters)
cdef _choose(dict chosen, str name, str value)
