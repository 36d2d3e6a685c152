# C types of auth.verify.

import cython

from pgdoorman_lib.auth.md5 cimport Md5Challenge, hash_password, is_hash
from pgdoorman_lib.auth.scram cimport ScramExchange, ScramVerifier
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.messages cimport authentication_sasl_continue, authentication_sasl_final

cdef int _INITIAL, _FIRST, _FINAL
cdef bytes _MECHANISM, _MECHANISM_PLUS
cdef tuple _OFFERED, _OFFERED_PLUS
cdef bytes _SASL, _SASL_PLUS


cdef class Candidate:
    cdef readonly str user
    cdef readonly str secret
    cdef readonly object refusal
    cdef readonly object finding
    cdef readonly object judge
    cdef str _hash
    cdef ScramVerifier _verifier
    cpdef bint is_current(self) except -1
    cpdef int succeeded(self) except -1
    cpdef failed(self, str why, str method=*)
    cpdef str stored_hash(self)
    cpdef ScramVerifier verifier(self, bytes key)


cdef class Proof:
    cdef readonly Candidate candidate
    cdef readonly bytes request
    cdef readonly int limit
    cdef readonly bint done
    cdef readonly bytes client_key
    @cython.final
    cdef int init_proof(self, Candidate candidate, bytes request, int limit) except -1
    cpdef bytes take(self, int kind, bytes body)


cdef class Md5Proof(Proof):
    cdef Md5Challenge _challenge
    @cython.locals(candidate=Candidate)
    cpdef bytes take(self, int kind, bytes body)


cdef class ScramProof(Proof):
    cdef ScramExchange _exchange
    cdef int _expects
    cdef bint _offers_plus
    cdef bint _plus
    cdef str _refusal
    @cython.locals(first=bytes)
    cpdef bytes take(self, int kind, bytes body)
    @cython.final
    @cython.locals(mechanism=bytes, first=bytes)
    cdef bytes _initial(self, bytes body)
    @cython.final
    @cython.locals(client_key=bytes, candidate=Candidate)
    cdef bytes _final(self, bytes body)


@cython.locals(proof=Proof)
cpdef authenticate(Stream stream, Candidate candidate, str method, bytes key)
@cython.locals(kind=int, body=bytes, answer=bytes)
cpdef int advance(Stream stream, Proof proof) except -1
cpdef Proof proof_by(str method, Candidate candidate, bytes key, bytes end_point)
cpdef str method_for(str secret, str rule)
cdef int _expect(int kind, str what) except -1
@cython.locals(size=Py_ssize_t, password=bytes)
cpdef bytes told_password(int kind, bytes body)
