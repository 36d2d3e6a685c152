# C types of client.relay.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.client_end cimport ClientEnd
from pgdoorman_lib.client.deployment cimport Deployment
from pgdoorman_lib.client.errands cimport Errands
from pgdoorman_lib.client.error_responses cimport ErrorResponses
from pgdoorman_lib.client.leftovers cimport Leftovers
from pgdoorman_lib.client.link cimport Link, Turn
from pgdoorman_lib.client.prepared cimport PreparedStatements
from pgdoorman_lib.client.reports cimport Reports
from pgdoorman_lib.client.requests cimport Requests
from pgdoorman_lib.client.responses cimport Responses
from pgdoorman_lib.client.sqlprepare cimport SqlPrepare
from pgdoorman_lib.client.texts cimport Texts
from pgdoorman_lib.client.unnamed cimport UnnamedStatement
from pgdoorman_lib.client.without_server cimport WithoutServer
from pgdoorman_lib.wire cimport consts

cdef Py_ssize_t HIGH_WATER
cdef int FAIRNESS
cdef Py_ssize_t MOST_AT_REST
cdef list _at_rest


@cython.locals(relay=Relay)
cpdef Relay relay_for(Link link)


@cython.final
cdef class Relay:
    cdef public Turn turn
    cdef public Errands errands
    cdef public Texts texts
    cdef public Leftovers leftovers
    cdef public Reports reports
    cdef public ClientEnd client_end
    cdef public WithoutServer without_server
    cdef public Requests requests
    cdef public Responses responses

    cpdef bint is_done(self) except -1
    cpdef int rest(self) except -1
    @cython.locals(status=int, rounds=int)
    cpdef int step(self) except -1
