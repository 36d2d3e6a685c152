# C types of auth.digests.

cimport cython


# As OpenSSL's SHA256_CTX (112 bytes, the same since 0.9.8), with room to spare.
cdef struct State:
    unsigned long long words[16]


@cython.final
cdef class Hmac:
    cdef State inner
    cdef State outer
    cdef object other
    cpdef bytes digest(self, bytes message)


cpdef bytes sha256(bytes data)
cpdef bytes xor(bytes one, bytes other)
