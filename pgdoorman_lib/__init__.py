"""pgdoorman's package: its version, and which build (compiled or interpreted) this process runs.

With ``PGDOORMAN_PURE=1`` in the environment a path hook that knows only source files is installed for this package, so
that every compiled module is passed over together; a mix of both builds never runs.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader

__version__ = "0.1.0"

PURE = os.environ.get("PGDOORMAN_PURE", "") not in ("", "0")


def _source_only(path: str) -> FileFinder:
    """A finder for ``path`` that sees no extension modules; ImportError for places that are not ours."""
    root = os.path.dirname(os.path.abspath(__file__))
    if path != root and not path.startswith(root + os.sep):
        raise ImportError(path)
    return FileFinder(path, (SourceFileLoader, SOURCE_SUFFIXES))


if PURE:
    sys.path_hooks.insert(0, _source_only)
    for _path in list(sys.path_importer_cache):
        if "pgdoorman_lib" in _path:
            del sys.path_importer_cache[_path]


def build() -> str:
    """``compiled`` or ``interpreted``: what the hot modules of this process are."""
    from pgdoorman_lib.net import stream

    return "interpreted" if (stream.__file__ or "").endswith(".py") else "compiled"
