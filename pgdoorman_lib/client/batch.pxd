# C types of client.batch.

import cython

from pgdoorman_lib.wire.effects cimport AwaitedParse, Verification
from pgdoorman_lib.wire.prepared cimport ClientStatements
from pgdoorman_lib.wire.statements cimport Statement


@cython.final
cdef class Batch:
    cdef public bint in_batch
    cdef public bint nothing_sent
    cdef public int flushed
    cdef public bint group_unnamed
    cdef public bint group_suspect
    cdef public bint group_ran
    cdef public bint suspect_portals
    cdef public bint named
    cdef public bint no_room
    cdef public bint planning_changed
    cdef public bint rows_told
    cdef public bint settling
    cdef public bint announcing
    cdef public int hidden
    cdef public int told_sets
    cdef public int altered
    cdef public int resetting
    cdef public int examining
    cdef public Statement bound
    cdef public Statement used
    cdef public list used_before
    cdef public list owned
    cdef public set taken
    cdef public Verification verifying
    cdef public AwaitedParse awaited
    cdef public list preparing
    cdef public list deallocating
    cdef public list rewritings
    cdef public object cut
    cdef public object failed
    cdef public bytes parse_error
    cdef public bytes lost
    cdef public list findings
    cdef public str errand
    cdef public object replaced

    cpdef int reset(self) except -1
    cpdef int own(self, bytes name, Statement own, Statement before) except -1
    cpdef int disown(self, ClientStatements mine) except -1
