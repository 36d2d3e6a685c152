# cython: language_level=3, boundscheck=False, wraparound=False
"""Many receives or sends in one system call, by an io_uring that is used like a function.

Rules:
1. ``run`` returns when everything queued is complete. Nothing is ever under way between two calls, so closing a
   descriptor, using its number again or giving a buffer away needs no care.
2. Nothing queued waits (MSG_DONTWAIT): what a call of its own would have answered with EAGAIN is answered so.
3. Buffers that are queued are held until ``run`` returns.
4. A ring belongs to the thread that has made it: in a child forked since, its queues are still the parent's.

``ring.py`` is the interpreted twin, which has no io_uring.
"""

from libc.errno cimport EAGAIN, EBUSY, EEXIST, EINTR, EINVAL, ENOMEM, errno
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from posix.mman cimport MAP_FAILED, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap
from posix.unistd cimport close as c_close

import socket


cdef extern from "unistd.h" nogil:
    long syscall(long number, ...)


cdef extern from *:
    """
    #define pgd_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define pgd_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    """
    uint32_t load_acquire "pgd_load_acquire"(uint32_t *p) nogil
    void store_release "pgd_store_release"(uint32_t *p, uint32_t v) nogil


cdef struct SqOffsets:
    uint32_t head
    uint32_t tail
    uint32_t ring_mask
    uint32_t ring_entries
    uint32_t flags
    uint32_t dropped
    uint32_t array
    uint32_t resv1
    uint64_t user_addr


cdef struct CqOffsets:
    uint32_t head
    uint32_t tail
    uint32_t ring_mask
    uint32_t ring_entries
    uint32_t overflow
    uint32_t cqes
    uint32_t flags
    uint32_t resv1
    uint64_t user_addr


cdef struct Parameters:
    uint32_t sq_entries
    uint32_t cq_entries
    uint32_t flags
    uint32_t sq_thread_cpu
    uint32_t sq_thread_idle
    uint32_t features
    uint32_t wq_fd
    uint32_t resv[3]
    SqOffsets sq_off
    CqOffsets cq_off


cdef enum:
    # New system calls have the same numbers on all architectures.
    SYS_SETUP = 425
    SYS_ENTER = 426

    OP_SEND = 26
    OP_RECV = 27

    SETUP_SUBMIT_ALL = 1 << 7
    SETUP_COOP_TASKRUN = 1 << 8
    SETUP_SINGLE_ISSUER = 1 << 12

    FEATURE_SINGLE_MMAP = 1
    FEATURE_NODROP = 2

    ENTER_GETEVENTS = 1
    OFFSET_SQES = 0x10000000

    C_MSG_DONTWAIT = 0x40
    C_MSG_NOSIGNAL = 0x4000

    NOT_DONE = -0x7FFFFFFF


cdef class Ring:
    """Takes up to ``entries`` (a power of two) operations for one ``run``.

    OSError when the kernel has no io_uring, forbids it, or does not do with it what is needed here.
    """

    def __cinit__(self):
        self.ring_fd = -1

    def __init__(self, int entries):
        cdef Parameters p
        cdef uint32_t flags[2]
        cdef int attempt, number
        cdef char *base
        cdef size_t size
        flags[0] = SETUP_SUBMIT_ALL | SETUP_COOP_TASKRUN | SETUP_SINGLE_ISSUER
        flags[1] = 0
        for attempt in range(2):
            memset(&p, 0, sizeof(p))
            p.flags = flags[attempt]
            self.ring_fd = syscall(SYS_SETUP, entries, &p)
            if self.ring_fd >= 0 or errno != EINVAL:
                break
        if self.ring_fd < 0:
            raise OSError(errno, "io_uring_setup")
        if not p.features & FEATURE_SINGLE_MMAP or not p.features & FEATURE_NODROP:
            self.close()
            raise OSError(EINVAL, "io_uring_setup")
        self.queues_size = p.sq_off.array + p.sq_entries * sizeof(uint32_t)
        size = p.cq_off.cqes + p.cq_entries * sizeof(Completion)
        if size > self.queues_size:
            self.queues_size = size
        self.queues = mmap(NULL, self.queues_size, PROT_READ | PROT_WRITE, MAP_SHARED, self.ring_fd, 0)
        if self.queues == MAP_FAILED:
            self.queues = NULL
            self._fail(errno, "mmap of io_uring's queues")
        self.submissions_size = p.sq_entries * sizeof(Submission)
        self.submissions = <Submission *>mmap(
            NULL, self.submissions_size, PROT_READ | PROT_WRITE, MAP_SHARED, self.ring_fd, OFFSET_SQES
        )
        if <void *>self.submissions == MAP_FAILED:
            self.submissions = NULL
            self._fail(errno, "mmap of io_uring's submissions")
        base = <char *>self.queues
        self.sq_head = <uint32_t *>(base + p.sq_off.head)
        self.sq_tail = <uint32_t *>(base + p.sq_off.tail)
        self.sq_mask = (<uint32_t *>(base + p.sq_off.ring_mask))[0]
        for number in range(p.sq_entries):
            (<uint32_t *>(base + p.sq_off.array))[number] = number
        self.cq_head = <uint32_t *>(base + p.cq_off.head)
        self.cq_tail = <uint32_t *>(base + p.cq_off.tail)
        self.cq_mask = (<uint32_t *>(base + p.cq_off.ring_mask))[0]
        self.completions = <Completion *>(base + p.cq_off.cqes)
        self.capacity = p.sq_entries
        self.held = [None] * self.capacity
        self.results = <int32_t *>calloc(p.sq_entries, sizeof(int32_t))
        if self.results == NULL:
            self._fail(ENOMEM, "results of io_uring")
        try:
            self._try()
        except BaseException:
            self.close()
            raise

    def _try(self):
        """See that the kernel does what is counted on: OSError (EINVAL) otherwise."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            data = bytearray(b"12345678")
            self.receive(ours.fileno(), data, 0, 8)  # nothing there: must not wait
            self.send(theirs.fileno(), data, 0, 3)
            self.receive(ours.fileno(), data, 4, 4)
            self.run()
            if (self.result(0), self.result(1), self.result(2)) != (-EAGAIN, 3, 3) or data != b"12341238":
                raise OSError(EINVAL, "io_uring")

    def _fail(self, number, what):
        self.close()
        raise OSError(number, what)

    def __dealloc__(self):
        self.close()

    cpdef close(self):
        """Give everything back; idempotent."""
        if self.submissions != NULL:
            munmap(self.submissions, self.submissions_size)
            self.submissions = NULL
        if self.queues != NULL:
            munmap(self.queues, self.queues_size)
            self.queues = NULL
        if self.ring_fd >= 0:
            c_close(self.ring_fd)
            self.ring_fd = -1
        free(self.results)
        self.results = NULL
        self.count = 0

    cpdef int fileno(self) except -1:
        """The ring's descriptor; ValueError when it is closed."""
        if self.ring_fd < 0:
            raise ValueError("the ring is closed")
        return self.ring_fd

    cdef int _queue(self, int opcode, int fd, bytearray data, Py_ssize_t offset, Py_ssize_t size, int flags) except -1:
        cdef char *address = data
        cdef Submission *entry
        if offset < 0 or size < 0 or offset + size > len(data):
            raise ValueError("outside the buffer")
        if self.ring_fd < 0 or self.count >= self.capacity:
            raise ValueError("the ring is closed or full")
        entry = &self.submissions[(self.sq_tail[0] + <uint32_t>self.count) & self.sq_mask]
        memset(entry, 0, sizeof(Submission))
        entry.opcode = opcode
        entry.fd = fd
        entry.addr = <uint64_t><size_t>(address + offset)
        entry.len = <uint32_t>size
        entry.op_flags = flags
        entry.user_data = self.count
        self.results[self.count] = NOT_DONE
        self.held[self.count] = data
        self.count += 1
        return self.count - 1

    cpdef int receive(self, int fd, bytearray data, Py_ssize_t offset, Py_ssize_t size) except -1:
        """Queue receiving up to ``size`` bytes into ``data[offset:]``; its index."""
        return self._queue(OP_RECV, fd, data, offset, size, C_MSG_DONTWAIT)

    cpdef int send(self, int fd, bytearray data, Py_ssize_t offset, Py_ssize_t size) except -1:
        """Queue sending ``data[offset:offset+size]``; its index."""
        return self._queue(OP_SEND, fd, data, offset, size, C_MSG_DONTWAIT | C_MSG_NOSIGNAL)

    cdef int _reap(self) noexcept:
        """Note what has completed; how many."""
        cdef uint32_t head = self.cq_head[0]
        cdef uint32_t tail = load_acquire(self.cq_tail)
        cdef Completion *entry
        cdef int found = 0
        while head != tail:
            entry = &self.completions[head & self.cq_mask]
            if entry.user_data < <uint64_t>self.capacity:
                self.results[entry.user_data] = entry.res
            head += 1
            found += 1
        store_release(self.cq_head, head)
        return found

    cpdef int run(self) except -1:
        """Do everything queued, in order; returns when all of it is done. ``result`` tells of each.

        How many the kernel has taken on; of the others, for which it had no memory, the result is -EINTR. RuntimeError
        where the ring is another process's or thread's (seen by Linux from 6.0 on), OSError at what the kernel should
        never say: nothing has happened then to those that it has not taken on.
        """
        cdef uint32_t first, taken
        cdef int left, count, index, failure
        cdef long done
        count = self.count
        self.count = 0
        if count == 0:
            return 0
        first = self.sq_tail[0]
        store_release(self.sq_tail, first + <uint32_t>count)
        while True:
            done = syscall(SYS_ENTER, self.ring_fd, first + <uint32_t>count - self.sq_head[0], 0, 0, NULL, 0)
            if done < 0 and errno == EINTR:
                continue
            if done <= 0 or self.sq_head[0] == first + <uint32_t>count:
                failure = errno if done < 0 else 0
                break
        # What the kernel did not take, it shall not find later: its memory will be gone.
        taken = load_acquire(self.sq_head) - first
        store_release(self.sq_tail, first + taken)
        left = <int>taken - self._reap()
        while left > 0:
            # Nothing here waits, so this is not expected; but the memory is the kernel's until it says so.
            with nogil:
                syscall(SYS_ENTER, self.ring_fd, 0, 1, ENTER_GETEVENTS, NULL, 0)
            left -= self._reap()
        for index in range(count):
            self.held[index] = None
            if self.results[index] == NOT_DONE:
                self.results[index] = -EINTR
        if failure == EEXIST:
            raise RuntimeError("a fault of ours: an io_uring is used by another process or thread than has made it")
        if failure != 0 and failure != EAGAIN and failure != EBUSY and failure != ENOMEM:
            raise OSError(failure, "io_uring_enter")
        return <int>taken

    cpdef int result(self, int index) except? -1000000:
        """What operation ``index`` of the last ``run`` gave: a number of bytes, or ``-errno``."""
        if self.results == NULL or index < 0 or index >= self.capacity:
            raise ValueError("no such operation")
        return self.results[index]
