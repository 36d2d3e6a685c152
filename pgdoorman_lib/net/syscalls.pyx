# cython: language_level=3, boundscheck=False, wraparound=False
"""The system calls of the data path (recv, send, epoll, the clock) without Python objects in between.

Results below zero are ``-errno``. ``syscalls.py`` is the interpreted twin with the same names; the same tests hold both.
"""

from libc.errno cimport EINTR, ENOENT, EBADF, errno
from libc.string cimport memcmp, memmove, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport close as c_close


# Once a process has had a second thread (gevent's resolver has them), libc's own recv, send and epoll_wait pay four atomic
# operations a call to be cancellation points, which nobody here needs: the system is called past them.
cdef extern from "unistd.h" nogil:
    long syscall(long number, ...)

cdef extern from "sys/syscall.h" nogil:
    long SYS_recvfrom
    long SYS_sendto
    long SYS_epoll_pwait

cdef extern from "sys/socket.h" nogil:
    int MSG_NOSIGNAL
    int MSG_DONTWAIT


cdef extern from "sys/timerfd.h" nogil:
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *wanted, itimerspec *before)
    int TFD_NONBLOCK
    int TFD_CLOEXEC


cdef extern from "sys/epoll.h" nogil:
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int EPOLL_CLOEXEC
    int EPOLL_CTL_ADD
    int EPOLL_CTL_MOD
    int EPOLL_CTL_DEL
    unsigned int C_EPOLLIN "EPOLLIN"
    unsigned int C_EPOLLOUT "EPOLLOUT"
    unsigned int C_EPOLLERR "EPOLLERR"
    unsigned int C_EPOLLHUP "EPOLLHUP"
    unsigned int C_EPOLLRDHUP "EPOLLRDHUP"
    unsigned int C_EPOLLET "EPOLLET"


#: Bits of ``Epoll.mask_at``.
READABLE = 1
WRITABLE = 2
HANGUP = 4


cpdef Py_ssize_t recv_into(int fd, bytearray data, Py_ssize_t offset, Py_ssize_t size) except? -100000:
    """Receive up to ``size`` bytes into ``data[offset:]``; the count, 0 at end of stream, or ``-errno``."""
    cdef char *buffer = data
    cdef Py_ssize_t n
    if offset < 0 or size < 0 or offset + size > len(data):
        raise ValueError("recv_into outside the buffer")
    while True:
        n = syscall(SYS_recvfrom, <long> fd, buffer + offset, size, <long> MSG_DONTWAIT, NULL, NULL)
        if n >= 0:
            return n
        if errno != EINTR:
            return -errno


cpdef Py_ssize_t send_from(int fd, bytearray data, Py_ssize_t offset, Py_ssize_t size) except? -100000:
    """Send ``data[offset:offset+size]``; the count sent, or ``-errno``."""
    cdef char *buffer = data
    cdef Py_ssize_t n
    if offset < 0 or size < 0 or offset + size > len(data):
        raise ValueError("send_from outside the buffer")
    while True:
        n = syscall(SYS_sendto, <long> fd, buffer + offset, size, <long> (MSG_DONTWAIT | MSG_NOSIGNAL), NULL, <long> 0)
        if n >= 0:
            return n
        if errno != EINTR:
            return -errno


cpdef int copy(bytearray target, Py_ssize_t at, bytearray source, Py_ssize_t offset, Py_ssize_t size) except -1:
    """``target[at:at+size] = source[offset:offset+size]``; the two may be the same and overlap."""
    cdef char *to = target
    cdef char *origin = source
    if size < 0 or at < 0 or offset < 0 or at + size > len(target) or offset + size > len(source):
        raise ValueError("copy outside the buffer")
    memmove(to + at, origin + offset, size)
    return 0


cpdef bytes cut(bytearray data, Py_ssize_t start, Py_ssize_t end):
    """``data[start:end]`` as bytes."""
    cdef char *text = data
    if not 0 <= start <= end <= len(data):
        raise ValueError("cut outside the buffer")
    return text[start:end]


cpdef int put(bytearray target, Py_ssize_t at, bytes data) except -1:
    """``target[at:at+len(data)] = data``."""
    cdef char *to = target
    cdef const char *origin = data
    if at < 0 or at + len(data) > len(target):
        raise ValueError("put outside the buffer")
    memmove(to + at, origin, len(data))
    return 0


cpdef int holds(bytearray data, Py_ssize_t start, Py_ssize_t stop, bytes expected) except -1:
    """Whether ``data[start:stop]`` is ``expected``."""
    cdef const char *there = data
    cdef const char *wanted = expected
    if start < 0 or stop < start or stop > len(data):
        raise ValueError("holds outside the buffer")
    return stop - start == len(expected) and memcmp(there + start, wanted, stop - start) == 0


cpdef double clock() except? -1.0:
    """Seconds of the monotonic clock."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cdef class Epoll:
    """An edge-triggered epoll instance: each descriptor is registered once, for reading and hang-up."""

    def __cinit__(self):
        self.alarm_fd = -1
        self.epfd = epoll_create1(EPOLL_CLOEXEC)
        if self.epfd < 0:
            raise OSError(errno, "epoll_create1")
        self.alarm_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
        if self.alarm_fd < 0:
            raise OSError(errno, "timerfd_create")
        self.add(self.alarm_fd)

    def __dealloc__(self):
        self.close()

    cpdef int fileno(self) except -1:
        """The instance's own descriptor: readable when anything registered is."""
        return self.epfd

    cpdef int add(self, int fd) except -1:
        """Register ``fd``; OSError when the kernel refuses."""
        cdef epoll_event event
        event.events = C_EPOLLIN | C_EPOLLRDHUP | C_EPOLLET
        event.data.fd = fd
        if epoll_ctl(self.epfd, EPOLL_CTL_ADD, fd, &event) < 0:
            raise OSError(errno, "epoll_ctl ADD")
        return 0

    cpdef int want_write(self, int fd, bint wanted) except -1:
        """Tell (or cease to tell) when ``fd`` can be written to; an edge is raised at once if it can."""
        cdef epoll_event event
        event.events = C_EPOLLIN | C_EPOLLRDHUP | C_EPOLLET | (C_EPOLLOUT if wanted else 0)
        event.data.fd = fd
        if epoll_ctl(self.epfd, EPOLL_CTL_MOD, fd, &event) < 0:
            raise OSError(errno, "epoll_ctl MOD")
        return 0

    cpdef int remove(self, int fd) except -1:
        """Forget ``fd``; one that is not registered any more is no error."""
        cdef epoll_event event
        if epoll_ctl(self.epfd, EPOLL_CTL_DEL, fd, &event) < 0 and errno != ENOENT and errno != EBADF:
            raise OSError(errno, "epoll_ctl DEL")
        return 0

    cpdef int poll(self, double seconds=0.0) except -1:
        """Collect what is ready, waiting at most ``seconds`` (below 1); how many there are, at most 512.

        Waits in a row may share their time limit, so one may end early; also when a signal comes.
        """
        cdef int n, index
        cdef itimerspec limit
        if seconds > 0.0:
            if not self.alarmed:
                # One timer for many waits, which its event ends: a time limit of each would be entered among the
                # kernel's timers and taken out again, and have the processor's timer set now and then, which in a
                # virtual machine costs more than all the rest of a short wait.
                memset(&limit, 0, sizeof(limit))
                limit.it_value.tv_nsec = <long>(seconds * 1e9) + 1
                if timerfd_settime(self.alarm_fd, 0, &limit, NULL) < 0:
                    raise OSError(errno, "timerfd_settime")
                self.alarmed = True
            # Without giving the GIL away, which costs as much as relaying a small message: other threads (gevent's
            # resolver) get it when the turn ends, within milliseconds.
            n = syscall(SYS_epoll_pwait, <long> self.epfd, self.events, <long> 512, <long> -1, NULL, <long> 0)
        else:
            n = syscall(SYS_epoll_pwait, <long> self.epfd, self.events, <long> 512, <long> 0, NULL, <long> 0)
        if n < 0:
            if errno == EINTR:
                return 0
            raise OSError(errno, "epoll_wait")
        if self.alarmed:
            for index in range(n):
                if self.events[index].data.fd == self.alarm_fd:
                    self.alarmed = False
                    n -= 1
                    self.events[index] = self.events[n]
                    break
        return n

    cpdef int fd_at(self, int index) except -1:
        """The descriptor of event ``index`` of the last poll."""
        return self.events[index & 511].data.fd

    cpdef int mask_at(self, int index) except -1:
        """READABLE, WRITABLE and HANGUP bits of event ``index`` of the last poll."""
        cdef uint32_t events = self.events[index & 511].events
        cdef int mask = 0
        if events & C_EPOLLIN:
            mask |= 1
        if events & C_EPOLLOUT:
            mask |= 2
        if events & (C_EPOLLRDHUP | C_EPOLLHUP | C_EPOLLERR):
            mask |= 5
        return mask

    cpdef close(self):
        """Give the descriptor back; idempotent."""
        if self.epfd >= 0:
            c_close(self.epfd)
            self.epfd = -1
        if self.alarm_fd >= 0:
            c_close(self.alarm_fd)
            self.alarm_fd = -1
