# cython: language_level=3, boundscheck=False, wraparound=False
"""SHA-256 and its HMAC for short messages, by the libcrypto that Python's ssl has loaded.

What EVP and Python's objects cost is a multiple of what the digest of a short message does, so it is the plain functions
that are called, looked up in ``net.libcrypto``. Where they are not to be found ``auth.python_digests`` does the same, as
in ``digests.py``, the interpreted twin.
"""

from libc.string cimport memset

from pgdoorman_lib.net.libcrypto cimport dlsym, libcrypto

from pgdoorman_lib.auth.python_digests import Hmac as OtherHmac
from pgdoorman_lib.auth.python_digests import sha256 as other_sha256


# Declared as in OpenSSL's manual, SHA256_Init(3).
ctypedef int (*DigestInit)(State *state) noexcept nogil
ctypedef int (*DigestUpdate)(State *state, const void *data, size_t size) noexcept nogil
ctypedef int (*DigestFinal)(unsigned char *digest, State *state) noexcept nogil

cdef enum:
    SIZE = 32
    BLOCK = 64

cdef DigestInit digest_init
cdef DigestUpdate digest_update
cdef DigestFinal digest_final


cdef bint _find() except -1:
    """Look the functions up; whether all are there."""
    global digest_init, digest_update, digest_final
    cdef void *library = libcrypto()
    if library == NULL:
        return False
    digest_init = <DigestInit>dlsym(library, b"SHA256_Init")
    digest_update = <DigestUpdate>dlsym(library, b"SHA256_Update")
    digest_final = <DigestFinal>dlsym(library, b"SHA256_Final")
    return digest_init != NULL and digest_update != NULL and digest_final != NULL


#: Whether libcrypto is called directly.
DIRECT = _find()


cpdef bytes sha256(bytes data):
    """The SHA-256 of ``data``, 32 bytes."""
    cdef State state
    cdef unsigned char digest[SIZE]
    if not DIRECT:
        return other_sha256(data)
    _begin(&state)
    _take(&state, <const unsigned char *><const char *>data, len(data))
    _end(&state, digest)
    return (<char *>digest)[:SIZE]


cpdef bytes xor(bytes one, bytes other):
    """Of two digests."""
    cdef unsigned char both[SIZE]
    cdef const unsigned char *first = one
    cdef const unsigned char *second = other
    cdef int index
    if len(one) != SIZE or len(other) != SIZE:
        raise ValueError("no digests")
    for index in range(SIZE):
        both[index] = first[index] ^ second[index]
    return (<char *>both)[:SIZE]


cdef class Hmac:
    """HMAC-SHA-256 (RFC 2104) with a key of up to 64 bytes that is taken in once: half of the work for a message."""

    def __init__(self, bytes key):
        if len(key) > BLOCK:
            raise ValueError("a key of more than 64 bytes")
        if DIRECT:
            _take_key(&self.inner, key, 0x36)
            _take_key(&self.outer, key, 0x5C)
        else:
            self.other = OtherHmac(key)

    cpdef bytes digest(self, bytes message):
        """32 bytes."""
        cdef State state
        cdef unsigned char digest[SIZE]
        if self.other is not None:
            return self.other.digest(message)
        state = self.inner
        _take(&state, <const unsigned char *><const char *>message, len(message))
        _end(&state, digest)
        state = self.outer
        _take(&state, digest, SIZE)
        _end(&state, digest)
        return (<char *>digest)[:SIZE]


cdef int _take_key(State *state, bytes key, unsigned char pad) except -1:
    """Begin with a block of ``key``."""
    cdef unsigned char block[BLOCK]
    cdef Py_ssize_t index
    memset(block, pad, BLOCK)
    for index in range(len(key)):
        block[index] ^= <unsigned char>key[index]
    _begin(state)
    return _take(state, block, BLOCK)


cdef int _begin(State *state) except -1:
    if digest_init(state) != 1:
        raise RuntimeError("OpenSSL does not do SHA-256")
    return 0


cdef int _take(State *state, const unsigned char *data, size_t size) except -1:
    if digest_update(state, data, size) != 1:
        raise RuntimeError("OpenSSL's SHA-256 has failed")
    return 0


cdef int _end(State *state, unsigned char *digest) except -1:
    if digest_final(digest, state) != 1:
        raise RuntimeError("OpenSSL's SHA-256 has failed")
    return 0
