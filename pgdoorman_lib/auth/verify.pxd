# C types of auth.verify.

from pgdoorman_lib.auth.md5 cimport Md5Challenge, is_hash
from pgdoorman_lib.wire.messages cimport authentication_md5

cdef class Candidate:
    cdef readonly str user
    cdef readonly str secret
    cdef readonly object refusal
