# cython: language_level=3
"""Accepting connections by one system call each: what comes out is a bare descriptor and the peer's address.

``accept.py`` is the interpreted twin with the same names; the same tests hold both.
"""

from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, errno
from libc.stdint cimport uint16_t, uint32_t
from posix.unistd cimport close as c_close

import os


cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    cdef struct sockaddr:
        unsigned short sa_family
    cdef struct sockaddr_storage:
        pass
    int accept4(int fd, sockaddr *address, socklen_t *length, int flags)
    int SOCK_NONBLOCK
    int SOCK_CLOEXEC
    int AF_INET
    int AF_INET6

cdef extern from "<netinet/in.h>" nogil:
    cdef struct sockaddr_in:
        uint16_t sin_port
        uint32_t sin_addr
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

    def fileno(self):
        """The descriptor; -1 when it is closed."""
        return self.fd

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

    cdef object socket
    cdef int fd

    def __init__(self, socket):
        self.socket = socket
        self.fd = socket.fileno()

    def accept(self):
        """The next connection as (Accepted, peer), or None if there is none now; OSError.

        ``peer`` is the numeric host and the port, None on a unix socket.
        """
        cdef sockaddr_storage storage
        cdef sockaddr *address = <sockaddr *> &storage
        cdef socklen_t length = sizeof(storage)
        cdef char host[128]
        cdef Accepted made
        cdef int fd = accept4(self.fd, address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
        if fd < 0:
            if errno == EAGAIN or errno == ECONNABORTED or errno == EINTR:
                return None
            raise OSError(errno, os.strerror(errno))
        made = Accepted.__new__(Accepted)
        made.fd = fd
        made.family = address.sa_family
        if made.family != AF_INET and made.family != AF_INET6:
            return made, None
        if made.family == AF_INET:
            if inet_ntop(AF_INET, &(<sockaddr_in *> address).sin_addr, host, sizeof(host)) == NULL:
                raise OSError("the peer's address can't be read")
            return made, (host.decode("ascii"), ntohs((<sockaddr_in *> address).sin_port))
        if getnameinfo(address, length, host, sizeof(host), NULL, 0, NI_NUMERICHOST):
            raise OSError("the peer's address can't be read")
        return made, (host.decode("ascii"), ntohs((<sockaddr_in6 *> address).sin6_port))
