# The numbers of client.events as C constants (a test compares them).

cdef enum:
    PENDING = 0
    NEED_SERVER = 1
    RELEASE = 2
    CLIENT_GONE = 3
    TERMINATE = 4
    SERVER_GONE = 5
    CLIENT_FAULT = 6
    SERVER_FAULT = 7
    TOO_MANY_PINS = 10
    SPEAKS = 14
    AS_IT_CAME = 0
    MORE = 8
    HELD = 9
    REPLACED = 11
    STALLED = 12
    REFUSED = 13
