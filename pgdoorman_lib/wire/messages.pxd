# C types of wire.messages.

import cython

from pgdoorman_lib.wire cimport consts
from pgdoorman_lib.wire.framing cimport int32

cdef bytearray _HEAD
cdef bytes _AUTHENTICATION_OK
cdef bytes _AUTHENTICATION_MD5
cdef bytes _READY_FOR_QUERY

@cython.locals(head="unsigned char *", size=Py_ssize_t)
cdef bytes _numbered(int kind, long number, bytes rest)
cpdef bytes authentication_ok()
cpdef bytes backend_key_data(long pid, bytes secret)
cpdef bytes ready_for_query(bytes status=*)
cpdef bytes authentication_md5(bytes salt)
cpdef bytes authentication_sasl_continue(bytes data)
cpdef bytes authentication_sasl_final(bytes data)
