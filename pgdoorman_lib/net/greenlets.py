"""Interpreted twin of ``greenlets.pyx``: switching to greenlets, with the same names and results."""

from __future__ import annotations

from greenlet import greenlet


def switch(target: greenlet) -> None:
    """Let ``target`` go on; returns when somebody switches back. Raises what is thrown into the running greenlet."""
    target.switch()
