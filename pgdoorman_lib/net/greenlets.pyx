# cython: language_level=3
"""Switching to greenlets by greenlet's C interface: a login does so several times.

``greenlets.py`` is the interpreted twin with the same names; the same tests hold both.
"""

from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_Import

# The place in greenlet's table of functions (PyGreenlet_Switch_NUM of its greenlet.h), which is an interface for other
# modules and keeps it.
cdef enum:
    SWITCH = 6

ctypedef object (*Switch)(PyObject *target, PyObject *args, PyObject *kwargs)

cdef void **_functions = <void **> PyCapsule_Import("greenlet._C_API", 0)
cdef Switch _switch = <Switch> _functions[SWITCH]


cpdef int switch(object target) except -1:
    """Let ``target`` go on; returns when somebody switches back. Raises what is thrown into the running greenlet."""
    _switch(<PyObject *> target, NULL, NULL)
    return 0
