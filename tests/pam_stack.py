"""A directory of PAM services of our own, with passwords that a test writes, and a gate that it may close."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from eventually import eventually

_MODULES = ("/lib/*/security", "/lib/security", "/lib64/security", "/usr/lib/*/security", "/usr/lib/security")

_SCRIPT = """#!/bin/sh
cd {directory} || exit 1
case "$PAM_TYPE" in
auth)
    told=$(tr -d '\\000')
    echo "$PAM_SERVICE $PAM_USER ${{PAM_RHOST-none}}" >> asked
    [ -p gate ] && cat gate > /dev/null
    grep -qxF "$PAM_USER:$told" passwords ;;
account)
    ! grep -qxF "$PAM_USER" locked ;;
esac
"""


def has_pam_exec() -> bool:
    """Whether the module is there that runs a program."""
    return any(next(Path("/").glob(f"{place[1:]}/pam_exec.so"), None) for place in _MODULES)


class PamStack:
    """``directory`` has the services; each asks for the same passwords."""

    def __init__(self, directory: Path, *services: str) -> None:
        if not has_pam_exec():
            pytest.skip("no pam_exec here")
        self.directory = directory / "pam.d"
        self.directory.mkdir()
        self._data = directory / "pam"
        self._data.mkdir()
        self._script = self._data / "ask"
        self._script.write_text(_SCRIPT.format(directory=self._data))
        self._script.chmod(0o755)
        for name in ("passwords", "locked", "asked"):
            (self._data / name).touch()
        self._passwords: dict[str, str] = {}
        for service in services:
            self.add(service)
        self.write("other", "auth required pam_deny.so\naccount required pam_deny.so\n")

    def add(self, service: str) -> None:
        self.write(
            service,
            f"auth required pam_exec.so quiet expose_authtok {self._script}\n"
            f"account required pam_exec.so quiet {self._script}\n",
        )

    def write(self, service: str, text: str) -> None:
        (self.directory / service).write_text(text)

    def set_password(self, user: str, password: str) -> None:
        self._passwords[user] = password
        lines = "".join(f"{user}:{password}\n" for user, password in self._passwords.items())
        (self._data / "passwords").write_text(lines)

    def lock(self, *users: str) -> None:
        (self._data / "locked").write_text("".join(f"{user}\n" for user in users))

    @property
    def asked(self) -> list[str]:
        """Service, user and host of each question so far."""
        return (self._data / "asked").read_text().splitlines()

    def close(self) -> None:
        """From now on who asks gets no answer until ``open``."""
        os.mkfifo(self._data / "gate")

    def open(self) -> None:
        """Answer whoever waits, and whoever comes."""
        gate = self._data / "gate"
        away = self._data / "open"

        def nobody_waits() -> bool:
            try:
                os.close(os.open(away, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # nobody reads there
                return True
            return False

        if gate.exists():
            gate.rename(away)
            eventually(nobody_waits, message="all who waited have been answered")
            away.unlink()
