# C types of auth.verify.

import cython

from pgdoorman_lib.auth.md5 cimport Md5Challenge, hash_password, is_hash
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.wire cimport consts


cdef class Candidate:
    cdef readonly str user
    cdef readonly str secret
    cdef readonly object refusal
    cdef str _hash
    cpdef str stored_hash(self)


@cython.locals(challenge=Md5Challenge)
cpdef authenticate(Stream stream, Candidate candidate, str method, bytes key)
cpdef str method_for(str secret, str rule)
cdef _check_md5(Stream stream, Candidate candidate, Md5Challenge challenge)
@cython.locals(kind=int)
cdef bytes _read(Stream stream, str what, int limit)
@cython.locals(body=bytes, size=Py_ssize_t, text="const unsigned char *", password=bytes)
cdef bytes _read_password(Stream stream)
