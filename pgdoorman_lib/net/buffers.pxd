# C types of net.buffers.

import cython

from pgdoorman_lib.net.line cimport Line


cdef Py_ssize_t BLOCK_SIZE
cdef Py_ssize_t MAX_FREE_BLOCKS


cdef class Buffers:
    cdef public Line blocks
    cdef public long long grown
    cdef public long long memory_limit
    cdef public object memory
    @cython.locals(block=bytearray, blocks=Line)
    cpdef bytearray take_block(self)
    cpdef int count_grown(self, long long change) except -1
    cpdef int give_block(self, bytearray block) except -1
