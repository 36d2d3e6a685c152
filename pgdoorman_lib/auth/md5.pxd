# C types of auth.md5.

import cython

from pgdoorman_lib.auth.entropy cimport random_bytes
from pgdoorman_lib.wire.messages cimport authentication_md5


@cython.locals(digit=Py_UCS4)
cpdef bint is_hash(str secret) except -1
cpdef str hash_password(str password, str user)
cdef str _hex(bytes data)


@cython.freelist(16)
cdef class Md5Challenge:
    cdef readonly bytes salt

    cpdef bytes message(self)
    cpdef check(self, str stored, bytes answer)
