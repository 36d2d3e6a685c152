# The libcrypto that Python's ssl has loaded, for compiled modules to look functions up in by their names.

cdef extern from "dlfcn.h" nogil:
    void *dlopen(const char *path, int mode)
    void *dlsym(void *library, const char *name)
    int RTLD_NOW


cdef inline void *libcrypto() except? NULL:
    """For ``dlsym``; NULL where it is not to be found (without an error set)."""
    import _ssl

    cdef bytes path = getattr(_ssl, "__file__", "").encode()
    return dlopen(<const char *>path if path else NULL, RTLD_NOW)
