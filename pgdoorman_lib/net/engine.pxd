# C types of net.engine.

import cython

from pgdoorman_lib.net cimport greenlets
from pgdoorman_lib.net.buffers cimport Buffers
from pgdoorman_lib.net.ring cimport Ring
from pgdoorman_lib.net.pollable cimport Pollable
from pgdoorman_lib.net.syscalls cimport clock


cdef double TURN_SECONDS
cdef double CLOSE_SECONDS
cdef int HOT_TURNS
cdef int PENDING
cdef Py_ssize_t SPARE_GREENLETS


@cython.final
cdef class Task:
    cdef public Engine engine
    cdef public object greenlet
    cdef public bint parked
    cdef public bint scheduled
    cdef public Task following
    cdef public Pollable pollable
    cdef public bint polling
    cdef public int event
    cdef public object fault
    @cython.locals(mine=Task, event=int)
    cpdef int wait(self, Pollable pollable) except -1
    @cython.locals(mine=Task, engine=Engine)
    cpdef int park(self) except -1
    cpdef int wake(self) except -1
    @cython.locals(pollable=Pollable)
    cpdef int resume(self) except -1
    cpdef int failed(self, Exception error) except -1
    cpdef int throw(self, BaseException error) except -1
    @cython.locals(pollable=Pollable)
    cpdef int begin(self) except -1
    @cython.final
    @cython.locals(pollable=Pollable)
    cdef int run(self) except -1


cdef class Channel:
    cdef public Engine engine
    cdef public int fd
    cdef public Task task
    cdef public object on_idle
    cdef public bint readable
    cdef public bint hangup
    cdef public bint blocked
    cdef public bint dirty
    cdef public Channel following
    cdef public bint armed
    cdef public bint drained
    @cython.final
    cdef int init_channel(self, Engine engine, int fd) except -1
    cpdef int push(self) except -2
    cpdef bint begin_receive(self, Ring ring) except -1
    cpdef int end_receive(self, Py_ssize_t n) except -1
    cpdef bint begin_send(self, Ring ring) except -1
    cpdef int end_send(self, Py_ssize_t n) except -1


cdef class Engine(Buffers):
    cdef public object hub
    cdef public object loop
    cdef public double now
    cdef public bint in_turn
    cdef public bint kicked
    cdef public bint closed
    cdef public object callbacks
    cdef public Task ready
    cdef public Task last_ready
    cdef public Channel dirty
    cdef public Channel last_dirty
    cdef public list spare_greenlets
    cdef Task beginning
    cdef public list later
    cdef public list idle
    cdef public bint level_triggered
    cdef public bint batches
    cdef public double began
    cdef public double ended
    cdef public int heat
    @cython.final
    cdef object take_greenlet(self, Task task)
    @cython.final
    @cython.locals(task=Task)
    cdef int _run_task(self) except -1
    @cython.final
    cdef int defer(self, Channel channel) except -1
    @cython.final
    @cython.locals(channel=Channel)
    cdef Channel next_dirty(self)
    @cython.locals(channel=Channel)
    cpdef int flush(self) except -1
    cdef int send_together(self) except -1
    cpdef int kick(self) except -1
    cpdef int again(self, Task task) except -1
    @cython.final
    cdef int schedule(self, Task task) except -1
    @cython.locals(task=Task)
    cpdef int note(self, Channel channel, int mask) except -1
    @cython.locals(channel=Channel, task=Task, resting=list)
    cpdef int run(self) except -1
    @cython.final
    @cython.locals(left=double)
    cdef double spare(self, double now) except -1.0
    cpdef int collect(self) except -1
    cpdef int register(self, Channel channel) except -1
    cpdef int unregister(self, Channel channel) except -1
    cpdef int rearm(self, Channel channel) except -1
    cpdef int want_write(self, Channel channel, int wanted) except -1
