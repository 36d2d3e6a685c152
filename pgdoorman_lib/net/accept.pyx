# cython: language_level=3
"""Accepting connections by one system call each: what comes out is a bare descriptor and the peer's address.

``accept.py`` is the interpreted twin with the same names; the same tests hold both.
"""

from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, errno
from libc.stdint cimport uint16_t, uint32_t
from posix.unistd cimport close as c_close

import os

import _socket


cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        unsigned short sa_family
    cdef struct sockaddr_storage:
        pass
    int setsockopt(int fd, int level, int option, const void *value, socklen_t length)
    int getsockopt(int fd, int level, int option, void *value, socklen_t *length)
    int accept4(int fd, sockaddr *address, socklen_t *length, int flags)
    int SOCK_NONBLOCK
    int SOCK_CLOEXEC
    int AF_INET
    int AF_INET6

cdef extern from "<netinet/in.h>" nogil:
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct sockaddr_in:
        uint16_t sin_port
        in_addr sin_addr
    cdef struct sockaddr_in6:
        uint16_t sin6_port
    uint16_t ntohs(uint16_t number)

cdef extern from "<netdb.h>" nogil:
    int getnameinfo(
        const sockaddr *address, socklen_t length, char *host, socklen_t host_size, char *port, socklen_t port_size,
        int flags,
    )
    int NI_NUMERICHOST

cdef extern from "<arpa/inet.h>" nogil:
    const char *inet_ntop(int family, const void *address, char *text, socklen_t size)


cdef class Accepted:
    """A connected, non-blocking socket: as much of a socket object as ``Stream`` asks for."""

    cdef int fd
    cdef readonly int family
    #: the peer's numeric address and port; empty and 0 on a unix socket
    cdef readonly str host
    cdef readonly int port

    def fileno(self):
        """The descriptor; -1 when it is closed."""
        return self.fd

    def setsockopt(self, int level, int option, int value):
        """As a socket's, for a number; OSError."""
        if setsockopt(self.fd, level, option, &value, sizeof(value)) < 0:
            raise OSError(errno, os.strerror(errno))

    def getsockopt(self, int level, int option, size=None):
        """The value of an integer option, or with a ``size`` that of another as so many bytes at most; OSError."""
        cdef int value = 0
        cdef socklen_t length = sizeof(value)
        if size is not None:
            return self._ask(lambda copy: copy.getsockopt(level, option, size))
        if getsockopt(self.fd, level, option, &value, &length) < 0:
            raise OSError(errno, os.strerror(errno))
        return value

    def getsockname(self):
        """As a socket's: its own address; OSError."""
        return self._ask(lambda copy: copy.getsockname())

    def _ask(self, question):
        """What a socket object on a descriptor of its own answers, for what is seldom asked; OSError."""
        copy = _socket.socket(fileno=os.dup(self.fd))
        try:
            return question(copy)
        finally:
            copy.close()

    def close(self):
        """Close the descriptor; idempotent."""
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            c_close(fd)

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)


cdef class Acceptor:
    """Takes connections from a listening, non-blocking socket, which it keeps but does not close."""

    cdef object listening
    cdef int fd
    #: the address of the last client, as it came and as text: the next one's is often the same
    cdef uint32_t last
    cdef str last_host

    def __init__(self, listening):
        self.listening = listening
        self.fd = listening.fileno()
        self.last_host = None

    def accept(self):
        """The next connection, or None if there is none now; OSError."""
        cdef sockaddr_storage storage
        cdef sockaddr *address = <sockaddr *> &storage
        cdef socklen_t length = sizeof(storage)
        cdef char host[128]
        cdef Accepted made
        cdef int fd
        while True:
            fd = accept4(self.fd, address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd >= 0:
                break
            if errno == EAGAIN:
                return None
            if errno != ECONNABORTED and errno != EINTR:
                raise OSError(errno, os.strerror(errno))
            # Others may stand behind this one, of whom nobody would tell again.
        made = Accepted.__new__(Accepted)
        made.fd = fd
        made.family = address.sa_family
        if made.family == AF_INET:
            if self.last_host is None or self.last != (<sockaddr_in *> address).sin_addr.s_addr:
                if inet_ntop(AF_INET, &(<sockaddr_in *> address).sin_addr, host, sizeof(host)) == NULL:
                    raise OSError("the peer's address can't be read")
                self.last = (<sockaddr_in *> address).sin_addr.s_addr
                self.last_host = host.decode("ascii")
            made.host = self.last_host
            made.port = ntohs((<sockaddr_in *> address).sin_port)
        elif made.family == AF_INET6:
            if getnameinfo(address, length, host, sizeof(host), NULL, 0, NI_NUMERICHOST):
                raise OSError("the peer's address can't be read")
            made.host = host.decode("ascii")
            made.port = ntohs((<sockaddr_in6 *> address).sin6_port)
        else:
            made.host = ""
        return made
