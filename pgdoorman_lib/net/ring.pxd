# C doors of net.ring: many receives or sends in one system call.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t


# The kernel's ABI, as io_uring_setup(2) and io_uring_enter(2) give it; the system's headers may be older than it.
cdef struct Submission:
    uint8_t opcode
    uint8_t flags
    uint16_t ioprio
    int32_t fd
    uint64_t off
    uint64_t addr
    uint32_t len
    uint32_t op_flags
    uint64_t user_data
    uint64_t rest[3]


cdef struct Completion:
    uint64_t user_data
    int32_t res
    uint32_t flags


cdef class Ring:
    cdef int ring_fd
    cdef void *queues
    cdef size_t queues_size
    cdef Submission *submissions
    cdef size_t submissions_size
    cdef uint32_t *sq_head
    cdef uint32_t *sq_tail
    cdef uint32_t sq_mask
    cdef uint32_t *cq_head
    cdef uint32_t *cq_tail
    cdef uint32_t cq_mask
    cdef Completion *completions
    cdef readonly int capacity
    cdef readonly int count
    cdef int32_t *results
    cdef list held

    cdef int _queue(self, int opcode, int fd, bytearray data, Py_ssize_t offset, Py_ssize_t size, int flags) except -1
    cdef int _reap(self) noexcept
    cpdef int fileno(self) except -1
    cpdef int receive(self, int fd, bytearray data, Py_ssize_t offset, Py_ssize_t size) except -1
    cpdef int send(self, int fd, bytearray data, Py_ssize_t offset, Py_ssize_t size) except -1
    cpdef int run(self) except -1
    cpdef int result(self, int index) except? -1000000
    cpdef close(self)
