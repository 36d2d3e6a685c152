# C types of client.login.


cdef class Accepted:
    cdef readonly str user
    cdef readonly str database
    cdef readonly dict parameters
    cdef readonly object protocol
    cdef readonly object admin
    cdef readonly object client_key
    cdef readonly str replication
