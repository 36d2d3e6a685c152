# C types of auth.verify.

from pgdoorman_lib.auth.md5 cimport Md5Challenge, hash_password, is_hash
from pgdoorman_lib.wire cimport consts


cdef class Candidate:
    cdef readonly str user
    cdef readonly str secret
    cdef readonly object refusal


cpdef authenticate(object stream, Candidate candidate, str method, bytes key)
cpdef str method_for(str secret, str rule)
cdef _check_md5(object stream, Candidate candidate, Md5Challenge challenge)
cdef bytes _read(object stream, str what, int limit)
cdef bytes _read_password(object stream)
