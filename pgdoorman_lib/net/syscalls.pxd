# C doors of net.syscalls: the few system calls of the data path, without Python objects in between.

cimport cython
from libc.stdint cimport uint32_t


cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data

cpdef Py_ssize_t recv_into(int fd, bytearray data, Py_ssize_t offset, Py_ssize_t size) except? -100000
cpdef Py_ssize_t send_from(int fd, bytearray data, Py_ssize_t offset, Py_ssize_t size) except? -100000
cpdef bytes cut(bytearray data, Py_ssize_t start, Py_ssize_t end)
cpdef int put(bytearray target, Py_ssize_t at, bytes data) except -1
cpdef int copy(bytearray target, Py_ssize_t at, bytearray source, Py_ssize_t offset, Py_ssize_t size) except -1
cpdef int holds(bytearray data, Py_ssize_t start, Py_ssize_t stop, bytes expected) except -1
cpdef double clock() except? -1.0


@cython.final
cdef class Epoll:
    cdef int epfd
    cdef int alarm_fd
    cdef bint alarmed
    cdef epoll_event events[512]
    cpdef int fileno(self) except -1
    cpdef int add(self, int fd) except -1
    cpdef int want_write(self, int fd, bint wanted) except -1
    cpdef int remove(self, int fd) except -1
    cpdef int poll(self, double seconds=*) except -1
    cpdef int fd_at(self, int index) except -1
    cpdef int mask_at(self, int index) except -1
    cpdef close(self)
