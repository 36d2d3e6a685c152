#!/usr/bin/env bash
# Cython 3.3.1: two cpdef methods of a final class that return `long long` and declare an error value make C that no
# compiler takes. The suffix LL is appended to the error value once for each method and kept, so the call of the method
# from Python compares with `-1LLLL`:
#
#     error: invalid suffix "LLLL" on integer constant
#
# Cython itself reports nothing, so a dry run of cythonize passes; the C compiler is the first to object. The same class
# without @cython.final, or with one such method alone, compiles (Python 3.11, gcc 12). What helps: return `int`, an
# object, or nothing.
#
# Exits 0 while that is so, 1 when the class compiles, 2 when nothing can be said.
set -u
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
python3 -m venv venv && venv/bin/pip install -q 'Cython==3.3.1' 'setuptools==80.9.0' || exit 2

cat >counters.py <<'PY'
class Counters:
    def doubled(self, n):
        return 2 * n

    def tripled(self, n):
        return 3 * n
PY
declare_types() { # $1: a decorator or nothing
    printf 'import cython\n%s\ncdef class Counters:\n' "$1"
    printf '    cpdef long long %s(self, long long n) except -1\n' doubled tripled
}

declare_types '' >counters.pxd
venv/bin/cythonize -3 -i counters.py >plain.log 2>&1 || { echo "the class without @cython.final does not compile either"; exit 2; }
rm -f counters.c counters*.so

declare_types '@cython.final' >counters.pxd
venv/bin/cythonize -3 counters.py >cython.log 2>&1 || { echo "Cython itself refuses it now"; cat cython.log; exit 1; }
if venv/bin/cythonize -3 -i -f counters.py >compiled.log 2>&1; then
    echo "it compiles now"
    exit 1
fi
grep -m1 'LLLL' compiled.log
