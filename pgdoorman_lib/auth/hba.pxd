# C types of auth.hba: none, compiling it is all.
