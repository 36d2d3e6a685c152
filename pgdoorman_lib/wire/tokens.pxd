# C types of wire.tokens.

from pgdoorman_lib.wire.lexer cimport Lexer
