# C types of listener: none, compiling it is all.
