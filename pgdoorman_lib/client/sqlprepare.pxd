# C types of client.sqlprepare.

import cython

from pgdoorman_lib.client cimport events
from pgdoorman_lib.client.batch cimport Batch
from pgdoorman_lib.wire cimport consts, owed
from pgdoorman_lib.net.stream cimport Stream
from pgdoorman_lib.pool.queue cimport Borrower
from pgdoorman_lib.server.connection cimport Server
from pgdoorman_lib.wire.effects cimport AwaitedParse, Eviction, InjectedParse, QueryParse, Verification, unnamed_close
from pgdoorman_lib.wire.prepared cimport ClientStatements, ServerStatements
from pgdoorman_lib.wire.statements cimport Acts, Handle, Registry, Statement, Unnamed
from pgdoorman_lib.wire.effect cimport Effect
from pgdoorman_lib.wire.replies cimport Replies
from pgdoorman_lib.wire.framing cimport find_nul
from pgdoorman_lib.wire.scan cimport Scanner

cdef int _DIRTY_TEMPORARY
cdef int _UNCERTAIN
cdef int _HAS_ENABLED
cdef int _DOUBTFUL_READING
cdef int _MAY_HAVE_ALTERED
cdef Scanner _no_words
cdef bytearray _forget_sequences
cdef bytearray _sync
cdef bytearray _flush_all


cdef class SqlPrepare(Borrower):
    cdef public Stream client
    cdef public Batch batch
    cdef public bint by_transaction
    cdef public bint shared
    cdef public bint drew
    cdef public bint asked_sequences
    cdef public object knowledge
    cdef public object tracker
    cdef public bint noted
    cdef public Scanner scanner
    cdef public Py_ssize_t skip_to
    cdef public object fault
    cdef public Py_ssize_t parse_limit
    cdef public Registry registry
    cdef public Replies replies
    cdef public Server server
    cdef public Stream srv
    cdef public object startup
    cdef public ClientStatements statements

    cpdef int init_prepared(self, Stream client) except -1
    @cython.final
    @cython.locals(held=ServerStatements)
    cdef int _query(self, Replies replies) except -1
    @cython.final
    @cython.locals(own=Statement)
    cdef Statement _own(self, bytes name, Statement statement)
    @cython.final
    cdef bint _foreign(self, Statement statement) except -1
    @cython.final
    cdef bint _apart(self) except -1
    @cython.final
    @cython.locals(statement=Statement)
    cdef bint _fits(self, Acts acts) except -1
    @cython.final
    cdef int _to_server_part(self, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.final
    @cython.locals(held=ServerStatements, message=bytearray)
    cdef int _ensure(self, Statement statement) except -1
    @cython.final
    @cython.locals(held=ServerStatements)
    cdef int _missing(self, Statement statement, Acts acts) except -1
    @cython.final
    @cython.locals(message=bytearray)
    cdef int _close(self, Handle handle) except -1
    @cython.final
    @cython.locals(message=bytearray)
    cdef int _inject(self, Statement statement, Effect effect) except -1
    @cython.final
    cdef int _prepare_by_sql(self, Statement statement) except -1
    @cython.final
    cdef int _run_errand(self, bytes sql, Effect effect) except -1
    @cython.final
    @cython.locals(held=ServerStatements, victim=Handle)
    cdef void _evict(self, Acts acts, Py_ssize_t size) except *
    @cython.final
    cdef int _take(self, bytes name) except -1
    @cython.final
    @cython.locals(flags=int)
    cdef int _reading(self) except -1
    @cython.final
    cdef object _look(self, bytes text)
    @cython.final
    cdef int _look_again(self, object statement, bytes text) except -1
    @cython.final
    cdef bint _in_doubt(self) except -1
    @cython.final
    @cython.locals(replies=Replies)
    cdef int _runs(self, object text, bint simple) except -1
    @cython.final
    cdef int _names_options(self, object values) except -1
    @cython.final
    cdef int _cut(self, bytearray data, Py_ssize_t pos, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t size) except -1
    @cython.final
    cdef int _streamed(self, bytearray data, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t left) except -1
    @cython.final
    @cython.locals(unnamed=Unnamed)
    cdef void _note_part(self, object text) except *
    @cython.final
    cdef int _function_call(self, bytearray data, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except -1
    @cython.final
    @cython.locals(server=Server)
    cdef int _hide_sequences(self) except -1
    cpdef int forget_sequences(self) except -1
    @cython.final
    @cython.locals(replies=Replies)
    cdef bint _sequences_settled(self) except -1
    cpdef int ask_sequences(self) except -1
    @cython.final
    @cython.locals(acts=Acts, stop=Py_ssize_t, waits=int)
    cdef int _query_text(self, bytearray data, Py_ssize_t run, Py_ssize_t pos, Py_ssize_t size, Py_ssize_t avail) except -1
    @cython.final
    @cython.locals(held=ServerStatements, awaited=AwaitedParse, statement=Statement)
    cdef int _awaits(self, Acts acts, Py_ssize_t run, Py_ssize_t pos) except -1
    @cython.final
    @cython.locals(held=ServerStatements, statement=Statement)
    cdef bint _has(self, object statements) except -1
    @cython.final
    @cython.locals(replies=Replies)
    cdef bint _names_settled(self) except -1
    cdef bint _refused(self) except -1
    @cython.final
    cdef int _rewritten(self, bytes front, Acts acts) except -1
    @cython.final
    @cython.locals(replies=Replies)
    cdef int _goes(self, object rewriting) except -1
    @cython.final
    @cython.locals(acts=Acts, statement=Statement)
    cdef Acts _acts(self, object text, bytes original)
    @cython.final
    @cython.locals(acts=Acts, fresh=Acts)
    cdef Statement _renewed(self, bytes name, Statement statement)
    @cython.final
    @cython.locals(held=ServerStatements, statement=Statement)
    cdef bytes _act(self, Acts acts, int kind, bytearray data, Py_ssize_t start, Py_ssize_t stop)
