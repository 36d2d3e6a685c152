# cython: language_level=3, boundscheck=False, wraparound=False
"""The ciphers of TLS 1.3's records, by the libcrypto that Python's ssl has loaded.

Its functions are looked up there (``net.libcrypto``) when this module is imported, so that neither OpenSSL's headers nor
a library to link with are needed, and a repaired OpenSSL is used by both. Where they are not to be found (a Python that
has OpenSSL built in), ``net.pyca`` does the same by the package cryptography, as in ``aead.py``, the interpreted twin.
"""

from libc.string cimport memcpy

from pgdoorman_lib.net cimport tls_terms
from pgdoorman_lib.net.libcrypto cimport dlsym, libcrypto

from pgdoorman_lib.net.pyca import Aead as OtherAead
from pgdoorman_lib.net.pyca import load as load_other


# Declared as in OpenSSL's manual, EVP_EncryptInit(3) and ERR_clear_error(3); the numbers are the same since 1.1.
ctypedef void *(*ContextNew)() noexcept nogil
ctypedef void (*ContextFree)(void *context) noexcept nogil
ctypedef const void *(*CipherOf)() noexcept nogil
ctypedef int (*CipherInit)(
    void *context, const void *cipher, void *engine, const unsigned char *key, const unsigned char *iv, int sealing
) noexcept nogil
ctypedef int (*CipherUpdate)(
    void *context, unsigned char *out, int *size, const unsigned char *data, int data_size
) noexcept nogil
ctypedef int (*CipherFinal)(void *context, unsigned char *out, int *size) noexcept nogil
ctypedef int (*ContextControl)(void *context, int kind, int size, void *data) noexcept nogil
ctypedef void (*ErrorsClear)() noexcept nogil

cdef enum:
    CTRL_GET_TAG = 0x10
    CTRL_SET_TAG = 0x11

    IV = 12
    #: Content that is cheaper to copy than to give in two parts.
    SHORT = 2048

cdef ContextNew context_new
cdef ContextFree context_free
cdef CipherInit cipher_init
cdef CipherUpdate cipher_update
cdef CipherFinal cipher_final
cdef ContextControl context_control
cdef ErrorsClear errors_clear
#: The functions that give the ciphers.
cdef CipherOf aes_128_gcm
cdef CipherOf aes_256_gcm
cdef CipherOf chacha20_poly1305


cdef bint _find() except -1:
    """Look the functions up; whether all are there."""
    global context_new, context_free, cipher_init, cipher_update, cipher_final, context_control, errors_clear
    global aes_128_gcm, aes_256_gcm, chacha20_poly1305
    cdef void *library = libcrypto()
    if library == NULL:
        return False
    context_new = <ContextNew>dlsym(library, b"EVP_CIPHER_CTX_new")
    context_free = <ContextFree>dlsym(library, b"EVP_CIPHER_CTX_free")
    cipher_init = <CipherInit>dlsym(library, b"EVP_CipherInit_ex")
    cipher_update = <CipherUpdate>dlsym(library, b"EVP_CipherUpdate")
    cipher_final = <CipherFinal>dlsym(library, b"EVP_CipherFinal_ex")
    context_control = <ContextControl>dlsym(library, b"EVP_CIPHER_CTX_ctrl")
    errors_clear = <ErrorsClear>dlsym(library, b"ERR_clear_error")
    aes_128_gcm = <CipherOf>dlsym(library, b"EVP_aes_128_gcm")
    aes_256_gcm = <CipherOf>dlsym(library, b"EVP_aes_256_gcm")
    chacha20_poly1305 = <CipherOf>dlsym(library, b"EVP_chacha20_poly1305")
    return (
        context_new != NULL and context_free != NULL and cipher_init != NULL and cipher_update != NULL
        and cipher_final != NULL and context_control != NULL and errors_clear != NULL
        and aes_128_gcm != NULL and aes_256_gcm != NULL and chacha20_poly1305 != NULL
    )


#: Whether libcrypto is called directly.
DIRECT = _find()


def load() -> None:
    """Have the ciphers ready: where they are the package cryptography's, importing that takes 100 ms."""
    if not DIRECT:
        load_other()


cdef class Aead:
    """One key with its IV, to seal records or to open them; ``name`` as ``cryptography`` names the cipher.

    A record's nonce is made from the IV and its number (RFC 8446 section 5.3), what it authenticates beside is its header
    (section 5.2).
    """

    def __cinit__(self):
        self.context = NULL

    def __init__(self, str name, bytes key, bytes iv):
        cdef const void *cipher
        cdef Py_ssize_t key_size = 16 if name == "AESGCM" and len(key) == 16 else 32
        if name not in ("AESGCM", "ChaCha20Poly1305") or len(key) != key_size or len(iv) != IV:
            raise ValueError(f"no key and IV of {name}")
        if not DIRECT:
            self.other = OtherAead(name, key, iv)
            return
        if name == "ChaCha20Poly1305":
            cipher = chacha20_poly1305()
        elif key_size == 16:
            cipher = aes_128_gcm()
        else:
            cipher = aes_256_gcm()
        memcpy(self.iv, <const char *>iv, IV)
        self.context = context_new()
        if self.context == NULL:
            raise MemoryError("no context for a cipher")
        if cipher_init(self.context, cipher, NULL, <const unsigned char *><const char *>key, self.iv, 1) != 1:
            errors_clear()
            raise RuntimeError(f"OpenSSL does not do {name}")

    def __dealloc__(self):
        if self.context != NULL:
            context_free(self.context)  # which wipes the key out

    cdef int _begin(self, unsigned long long number, int sealing) except -1:
        """Be ready for record ``number``."""
        cdef unsigned char nonce[IV]
        cdef int index
        memcpy(nonce, self.iv, IV)
        for index in range(8):
            nonce[IV - 1 - index] ^= <unsigned char>(number >> (8 * index))
        if self.context == NULL or cipher_init(self.context, NULL, NULL, NULL, nonce, sealing) != 1:
            raise self._failed()
        return 0

    def _failed(self):
        errors_clear()  # ssl would take it for its own
        return RuntimeError("OpenSSL's cipher has failed")

    cpdef Py_ssize_t seal(
        self, unsigned long long number, int kind, bytearray data, Py_ssize_t start, Py_ssize_t size, bytearray out,
        Py_ssize_t at
    ) except -1:
        """Put the record ``number``, of ``data[start:start+size]``, at ``out[at:]``; where it ends."""
        cdef unsigned char *content
        cdef unsigned char *record
        cdef unsigned char last = <unsigned char>kind
        cdef int body = <int>size + tls_terms.OVERHEAD
        cdef int done
        if start < 0 or size < 0 or start + size > len(data) or at < 0 or at + tls_terms.HEADER_SIZE + body > len(out):
            raise ValueError("seal outside the buffer")
        if size > tls_terms.MAX_CONTENT:
            raise ValueError("too much for a record")
        if self.other is not None:
            return self.other.seal(number, kind, data, start, size, out, at)
        content = <unsigned char *><char *>data + start
        record = <unsigned char *><char *>out + at
        record[0] = tls_terms.APPLICATION_DATA
        record[1] = tls_terms.LEGACY_VERSION >> 8
        record[2] = tls_terms.LEGACY_VERSION & 0xFF
        record[3] = <unsigned char>(body >> 8)
        record[4] = <unsigned char>body
        self._begin(number, 1)
        if cipher_update(self.context, NULL, &done, record, tls_terms.HEADER_SIZE) != 1:
            raise self._failed()
        record += tls_terms.HEADER_SIZE
        if size < SHORT:
            memcpy(record, content, size)
            record[size] = last
            if cipher_update(self.context, record, &done, record, <int>size + 1) != 1:
                raise self._failed()
        elif (
            cipher_update(self.context, record, &done, content, <int>size) != 1
            or cipher_update(self.context, record + size, &done, &last, 1) != 1
        ):
            raise self._failed()
        record += size + 1
        if (
            cipher_final(self.context, record, &done) != 1
            or context_control(self.context, CTRL_GET_TAG, tls_terms.TAG_SIZE, record) != 1
        ):
            raise self._failed()
        return at + tls_terms.HEADER_SIZE + body

    cpdef Py_ssize_t open(
        self, unsigned long long number, bytearray record, Py_ssize_t at, Py_ssize_t body, bytearray out, Py_ssize_t to
    ) except -2:
        """Put what the record ``number`` at ``record[at:]``, ``body`` bytes behind its header, holds at ``out[to:]``.

        ``out`` may be ``record``, with ``to`` right behind the header. The number of bytes, -1 if it is not authentic.
        """
        cdef unsigned char *header
        cdef unsigned char *target
        cdef int size = <int>body - tls_terms.TAG_SIZE
        cdef int done
        if body < tls_terms.TAG_SIZE or body > tls_terms.MAX_BODY or at < 0 or to < 0:
            raise ValueError("open outside the buffer")
        if at + tls_terms.HEADER_SIZE + body > len(record) or to + size > len(out):
            raise ValueError("open outside the buffer")
        if self.other is not None:
            return self.other.open(number, record, at, body, out, to)
        header = <unsigned char *><char *>record + at
        target = <unsigned char *><char *>out + to
        self._begin(number, 0)
        if (
            context_control(self.context, CTRL_SET_TAG, tls_terms.TAG_SIZE, header + tls_terms.HEADER_SIZE + size) != 1
            or cipher_update(self.context, NULL, &done, header, tls_terms.HEADER_SIZE) != 1
            or cipher_update(self.context, target, &done, header + tls_terms.HEADER_SIZE, size) != 1
        ):
            raise self._failed()
        if cipher_final(self.context, target + size, &done) != 1:
            errors_clear()
            return -1
        return size
