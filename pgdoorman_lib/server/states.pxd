# The numbers of server.states as C constants (a test compares them).

cdef enum:
    LOGIN = 0
    IDLE = 1
    ACTIVE = 2
    CLEANING = 3
    CLOSED = 4
