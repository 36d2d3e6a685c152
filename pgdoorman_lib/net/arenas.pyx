# cython: language_level=3
"""Keeps the memory that CPython gives a greenlet for its interpreted frames, instead of mapping it anew each time.

Since Python 3.11 the first interpreted frame of a greenlet takes a chunk of 16 KiB straight from the system, and the
end of the greenlet gives it back: two system calls and a page fault, which is a tenth of what a login costs. Here chunks
of that size go to a short list first. Python's own allocator of arenas does all else (C API, "Customize pymalloc Arena
Allocator"). ``arenas.py`` is the interpreted twin, which does nothing.
"""

cdef extern from "Python.h":
    ctypedef struct PyObjectArenaAllocator:
        void *ctx
        void *(*alloc)(void *ctx, size_t size) noexcept
        void (*free)(void *ctx, void *ptr, size_t size) noexcept

    void PyObject_GetArenaAllocator(PyObjectArenaAllocator *allocator)
    void PyObject_SetArenaAllocator(PyObjectArenaAllocator *allocator)

# DATA_STACK_CHUNK_SIZE of CPython's pystate.c. Should another Python have another, nothing is kept, and all still works.
cdef enum:
    CHUNK = 16384
    MAX_KEPT = 64

# No list of Python's: this is where Python's own memory comes from. The GIL is held whenever it is called.
cdef void *kept[MAX_KEPT]
cdef int count = 0
cdef bint installed = False
cdef PyObjectArenaAllocator system


cdef void *take(void *ctx, size_t size) noexcept:
    global count
    if size == CHUNK and count:
        count -= 1
        return kept[count]
    return system.alloc(system.ctx, size)


cdef void give(void *ctx, void *ptr, size_t size) noexcept:
    global count
    if size == CHUNK and count < MAX_KEPT:
        kept[count] = ptr
        count += 1
        return
    system.free(system.ctx, ptr, size)


def keep_chunks():
    """From now on, for this process; idempotent."""
    global installed
    cdef PyObjectArenaAllocator ours
    if installed:
        return
    installed = True
    PyObject_GetArenaAllocator(&system)
    ours.ctx = NULL
    ours.alloc = take
    ours.free = give
    PyObject_SetArenaAllocator(&ours)


def kept_chunks():
    """How many are at hand."""
    return count
