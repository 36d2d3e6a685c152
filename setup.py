"""The list of compiled modules and the switch that leaves them out; everything else stands in setup.cfg.

Each entry is plain Python with its C types in the ``.pxd`` beside it (Cython's augmenting mode), or a ``.pyx`` with an
interpreted twin of the same name. ``PGDOORMAN_PURE=1`` builds a wheel without them, for which no compiler is needed;
otherwise what does not compile fails the build. The compiled engine is Linux's: other systems always build pure.
"""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

COMPILED = (
    "pgdoorman_lib/wire/framing.py",
    "pgdoorman_lib/wire/source.py",
    "pgdoorman_lib/wire/lexer.py",
    "pgdoorman_lib/wire/tokens.py",
    "pgdoorman_lib/wire/scan.py",
    "pgdoorman_lib/wire/messages.py",
    "pgdoorman_lib/wire/startup.py",
    "pgdoorman_lib/wire/effect.py",
    "pgdoorman_lib/wire/statements.py",
    "pgdoorman_lib/wire/prepared.py",
    "pgdoorman_lib/wire/effects.py",
    "pgdoorman_lib/wire/runs.py",
    "pgdoorman_lib/wire/replies.py",
    "pgdoorman_lib/net/syscalls.pyx",
    "pgdoorman_lib/net/arenas.pyx",
    "pgdoorman_lib/net/accept.pyx",
    "pgdoorman_lib/net/ring.pyx",
    "pgdoorman_lib/net/greenlets.pyx",
    "pgdoorman_lib/net/line.py",
    "pgdoorman_lib/net/buffers.py",
    "pgdoorman_lib/net/pollable.py",
    "pgdoorman_lib/net/deadlines.py",
    "pgdoorman_lib/net/engine.py",
    "pgdoorman_lib/net/watchers.py",
    "pgdoorman_lib/net/epoll.py",
    "pgdoorman_lib/net/uring.py",
    "pgdoorman_lib/net/aead.pyx",
    "pgdoorman_lib/net/traffic.py",
    "pgdoorman_lib/net/tls13.py",
    "pgdoorman_lib/net/stream.py",
    "pgdoorman_lib/metrics/counters.py",
    "pgdoorman_lib/auth/entropy.py",
    "pgdoorman_lib/auth/digests.pyx",
    "pgdoorman_lib/auth/md5.py",
    "pgdoorman_lib/auth/hba.py",
    "pgdoorman_lib/auth/scram.py",
    "pgdoorman_lib/auth/verify.py",
    "pgdoorman_lib/server/unanswered.py",
    "pgdoorman_lib/server/connection.py",
    "pgdoorman_lib/pool/row.py",
    "pgdoorman_lib/pool/queue.py",
    "pgdoorman_lib/pool/beginnings.py",
    "pgdoorman_lib/pool/database.py",
    "pgdoorman_lib/pool/opening.py",
    "pgdoorman_lib/pool/pins.py",
    "pgdoorman_lib/pool/probes.py",
    "pgdoorman_lib/pool/pool.py",
    "pgdoorman_lib/pool/registry.py",
    "pgdoorman_lib/client/batch.py",
    "pgdoorman_lib/client/link.py",
    "pgdoorman_lib/client/errands.py",
    "pgdoorman_lib/client/deployment.py",
    "pgdoorman_lib/client/texts.py",
    "pgdoorman_lib/client/sqlprepare.py",
    "pgdoorman_lib/client/unnamed.py",
    "pgdoorman_lib/client/memory.py",
    "pgdoorman_lib/client/prepared.py",
    "pgdoorman_lib/client/leftovers.py",
    "pgdoorman_lib/client/reports.py",
    "pgdoorman_lib/client/error_responses.py",
    "pgdoorman_lib/client/responses.py",
    "pgdoorman_lib/client/client_end.py",
    "pgdoorman_lib/client/without_server.py",
    "pgdoorman_lib/client/requests.py",
    "pgdoorman_lib/client/relay.py",
    "pgdoorman_lib/client/served.py",
    "pgdoorman_lib/client/session.py",
    "pgdoorman_lib/client/registry.py",
    "pgdoorman_lib/client/logins.py",
    "pgdoorman_lib/client/login_cache.py",
    "pgdoorman_lib/client/encryption.py",
    "pgdoorman_lib/client/login.py",
    "pgdoorman_lib/client/begin.py",
    "pgdoorman_lib/client/pooler.py",
    "pgdoorman_lib/client/connection.py",
    "pgdoorman_lib/listener.py",
)

#: Those among them that run seldom, most of them once a login: written with Python's indices, which stay checked.
CHECKED = (
    "pgdoorman_lib/wire/tokens.py",
    "pgdoorman_lib/wire/messages.py",
    "pgdoorman_lib/wire/startup.py",
    "pgdoorman_lib/auth/entropy.py",
    "pgdoorman_lib/auth/md5.py",
    "pgdoorman_lib/auth/hba.py",
    "pgdoorman_lib/auth/scram.py",
    "pgdoorman_lib/auth/verify.py",
    "pgdoorman_lib/pool/beginnings.py",
    "pgdoorman_lib/pool/registry.py",
    "pgdoorman_lib/client/registry.py",
    "pgdoorman_lib/client/logins.py",
    "pgdoorman_lib/client/login_cache.py",
    "pgdoorman_lib/client/encryption.py",
    "pgdoorman_lib/client/login.py",
    "pgdoorman_lib/client/begin.py",
    "pgdoorman_lib/client/pooler.py",
    "pgdoorman_lib/client/connection.py",
    "pgdoorman_lib/listener.py",
)

#: Nothing here is pickled, nobody asks functions what they look like: without the code for that a module compiles in
#: four fifths of the time.
CHECKED_DIRECTIVES = {"language_level": 3, "auto_pickle": False, "binding": False}

COMPILER_DIRECTIVES = {
    **CHECKED_DIRECTIVES,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
}

#: What Cython gives each module of its own code (views of memory, the reading of arguments), here once for all of them:
#: where it stood in every module, they took a third longer to compile, and each process had it many times.
SHARED = "pgdoorman_lib.cython_shared"

#: Calls into Python need not go through a table of jumps.
COMPILE_ARGS = ("-O2", "-fno-plt", "-g0")

#: Modules compiled at a time.
JOBS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

#: Translating in parallel forks; a set-up script can't where Python begins processes otherwise.
TRANSLATORS = JOBS if sys.version_info < (3, 14) else 0

CYTHON = "Cython>=3.2.1,<4"

#: Where a wheel without compiled modules is put together: it may be while another is compiled in ``build``.
PURE_BUILD = "build/pure"

PURE = os.environ.get("PGDOORMAN_PURE", "") not in ("", "0") or sys.platform != "linux"


def extensions() -> list[Extension]:
    """What ``setup`` is to compile; raises FileNotFoundError when a listed module or its companion is missing."""
    root = Path(__file__).parent
    for source in COMPILED:
        companion = str(Path(source).with_suffix(".py" if source.endswith(".pyx") else ".pxd"))
        for needed in (source, companion):
            if not (root / needed).is_file():
                raise FileNotFoundError(f"{needed}: missing, but {source} is in the list of compiled modules")
    from Cython.Build import cythonize

    modules = []
    for directives, sources in (
        (COMPILER_DIRECTIVES, [source for source in COMPILED if source not in CHECKED]),
        (CHECKED_DIRECTIVES, [*CHECKED, f"{SHARED.replace('.', '/')}.c"]),
    ):
        wanted = [
            Extension(source.rpartition(".")[0].replace("/", "."), [source], extra_compile_args=list(COMPILE_ARGS))
            for source in sources
        ]
        modules += cythonize(
            wanted,
            build_dir="build/cython",
            compiler_directives=directives,
            nthreads=TRANSLATORS,
            shared_utility_qualified_name=SHARED,
        )
    return modules


class BuildExtensions(build_ext):
    """Compiles on all cores, the largest first, and tells how far it has come."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or JOBS
        self._begun = count(1)

    def build_extensions(self) -> None:
        self.extensions.sort(key=lambda extension: -sum(Path(source).stat().st_size for source in extension.sources))
        super().build_extensions()

    def build_extension(self, extension: Extension) -> None:
        print(f"compiling {next(self._begun)} of {len(self.extensions)}: {extension.name}", flush=True)
        super().build_extension(extension)


def main() -> None:
    if PURE:
        setup(options={"build": {"build_base": PURE_BUILD}})
        return
    # The front end asks a first time for what the build needs (Cython), before that is there.
    asking = any(word in sys.argv for word in ("egg_info", "dist_info", "sdist", "--version", "clean"))
    setup(
        ext_modules=[] if asking else extensions(),
        setup_requires=[CYTHON],
        cmdclass={"build_ext": BuildExtensions},
    )


if __name__ == "__main__":
    main()
