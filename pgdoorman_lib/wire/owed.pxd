# The numbers of wire.owed as C constants (a test compares them).

cdef enum:
    QUERY = 1
    FUNCTION = 2
    SYNC = 3
    PARSE = 4
    BIND = 5
    DESCRIBE = 6
    EXECUTE = 7
    CLOSE = 8
    COPY_END = 9
    PLAIN = 10
    RUN = 11
    MADE_PARSE = 12
    MADE_CLOSE = 13
    SWALLOW = 128
    EFFECT = 64
    CODE = 15
    PASS = 0
    DROP = 1
    DESYNC = 2
