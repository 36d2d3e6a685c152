# C types of auth.md5.

cpdef is_hash(str secret)
cdef str _hex(bytes data)


cdef class Md5Challenge:
    cdef readonly bytes salt

    cpdef str answer(self, str stored)
    cpdef check(self, str stored, bytes answer)
