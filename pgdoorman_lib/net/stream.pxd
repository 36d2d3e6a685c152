# C types of net.stream.

import cython

from pgdoorman_lib.net.engine cimport Channel, Engine, Task
from pgdoorman_lib.net.ring cimport Ring
from pgdoorman_lib.net.syscalls cimport copy, cut, put, recv_into, send_from
from pgdoorman_lib.net.tls13 cimport Tls13
from pgdoorman_lib.wire.framing cimport int32

cdef Py_ssize_t BLOCK_SIZE
cdef Py_ssize_t RAW_SIZE
cdef Py_ssize_t SMALL_RECORDS
cdef Py_ssize_t _SEALED

cdef int EAGAIN
cdef int EWOULDBLOCK
cdef int EINTR
cdef int EPROTO
cdef int _AF_UNIX


cdef class Stream(Channel):
    cdef public object sock
    cdef public str peer_host
    cdef public int peer_port
    cdef public bint is_unix
    cdef public bytearray block
    cdef public Py_ssize_t start
    cdef public Py_ssize_t end
    cdef public bint eof
    cdef public int error
    cdef public bytearray inbox
    cdef public Py_ssize_t inbox_size
    cdef public int inbox_error
    cdef public bytearray out
    cdef public Py_ssize_t out_start
    cdef public Py_ssize_t out_end
    cdef public object more
    cdef public Py_ssize_t out_pending
    cdef public bint send_failed
    cdef public bint closed
    cdef public long long received
    cdef public long long sent
    cdef public object tls
    cdef public bytes end_point
    cdef public object peer_certificate
    cdef public Tls13 records
    cdef public object cipher_in
    cdef public object cipher_out
    cdef public bytearray tls_out
    cdef public Py_ssize_t tls_start
    cdef public Py_ssize_t tls_end

    @cython.locals(block=bytearray, room=Py_ssize_t, n=Py_ssize_t)
    cpdef Py_ssize_t fill(self) except -3
    @cython.locals(inbox=bytearray)
    cpdef bint begin_receive(self, Ring ring) except -1
    @cython.locals(inbox=bytearray)
    cpdef int end_receive(self, Py_ssize_t n) except -1
    @cython.locals(block=bytearray)
    cpdef int put_back(self, bytearray data, Py_ssize_t size) except -1
    @cython.final
    cdef bint has_news(self) except -1
    cpdef bint is_lost(self) except -1
    @cython.final
    cdef Py_ssize_t _take_inbox(self) except -3
    @cython.locals(block=bytearray)
    cpdef int release(self) except -1
    @cython.locals(block=bytearray, larger=bytearray)
    cpdef void grow(self, Py_ssize_t size) except *
    @cython.locals(out=bytearray, tail=bytearray, room=Py_ssize_t, part=Py_ssize_t, tail_start=Py_ssize_t, tail_end=Py_ssize_t)
    cpdef int send_copy(self, bytearray data, Py_ssize_t start, Py_ssize_t size) except -1
    cpdef int send_block(self, bytearray block, Py_ssize_t start, Py_ssize_t end) except -1
    @cython.locals(out=bytearray, size=Py_ssize_t)
    cpdef int write(self, bytes data) except -1
    @cython.locals(out=bytearray, n=Py_ssize_t)
    cpdef int push(self) except -2
    @cython.locals(out=bytearray)
    cpdef bint begin_send(self, Ring ring) except -1
    @cython.locals(out=bytearray)
    cpdef int end_send(self, Py_ssize_t n) except -1
    @cython.final
    cdef int _next_segment(self) except -1
    @cython.final
    cdef int _unsent(self, int error) except -2
    @cython.final
    cdef int _drop_output(self, int error) except -1
    @cython.final
    cdef int _has_room(self) except -1
    @cython.final
    cdef int _give_output_back(self) except -1
    @cython.final
    @cython.locals(n=Py_ssize_t, raw=bytearray)
    cdef Py_ssize_t _fill_tls(self, bytearray block, Py_ssize_t room) except? -100000
    @cython.final
    @cython.locals(records=Tls13, raw=bytearray, n=Py_ssize_t, room=Py_ssize_t, drained=bint)
    cdef Py_ssize_t _fill_records(self, bytearray block) except? -100000
    @cython.final
    @cython.locals(records=Tls13, inbox=bytearray, raw=bytearray)
    cdef int _take_raw(self) except -1
    @cython.final
    @cython.locals(records=Tls13, raw=bytearray, larger=bytearray, size=Py_ssize_t)
    cdef bytearray _raw_room(self, Py_ssize_t least)
    @cython.final
    @cython.locals(records=Tls13)
    cdef int _give_raw_back(self) except -1
    @cython.final
    @cython.locals(n=Py_ssize_t, raw=bytearray)
    cdef int _push_tls(self) except -2
    @cython.final
    @cython.locals(raw=bytearray)
    cdef int _records_sent(self, Py_ssize_t size) except -1
    @cython.final
    @cython.locals(records=Tls13, block=bytearray, out=bytearray, end=Py_ssize_t, size=Py_ssize_t)
    cdef bint _seal(self) except -1
    @cython.locals(out=bytearray, n=Py_ssize_t)
    cdef bint _encrypt(self) except -1
    cpdef void close(self) except *
    @cython.final
    cdef int _park(self) except -1
    @cython.final
    cdef Py_ssize_t _fill_or_park(self) except -3
    @cython.locals(block=bytearray)
    cpdef int peek(self) except -1
    @cython.locals(whole=bytearray, taken=bytes)
    cpdef bytes read_exact(self, Py_ssize_t size)
    @cython.locals(head=bytes, length=long)
    cpdef tuple read_message(self, Py_ssize_t max_length=*)
