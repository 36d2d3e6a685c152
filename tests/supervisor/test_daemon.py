"""Going to the background: what the launcher learns of the daemon, and that the fork comes before any hub."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from eventually import eventually

HEAD = """
import os, sys, time
import pgdoorman
from pgdoorman_lib import log
from pgdoorman_lib.errors import ConfigError
from pgdoorman_lib.supervisor import daemon
log.keep_standard_descriptors()
log.setup()
"""


def program(text: str) -> list[str]:
    return [sys.executable, "-c", HEAD + text]


def run(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(program(text), capture_output=True, text=True, timeout=30)


def test_one_that_serves() -> None:
    """The launcher does not wait for its end, and its output is let go of."""
    done = run("""
def serve(launcher):
    launcher.ready()
    print("unseen", file=sys.stderr, flush=True)
    return 1
sys.exit(daemon.launch(serve))
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("code", [78, 71, 1, 0])
def test_one_that_fails(code: int) -> None:
    done = run(f"""
def serve(launcher):
    print("why it failed", file=sys.stderr)
    return {code}
sys.exit(daemon.launch(serve))
""")
    assert (done.returncode, done.stderr) == (code, "why it failed\n")


def test_one_that_dies() -> None:
    done = run("sys.exit(daemon.launch(lambda launcher: os.kill(os.getpid(), 9)))")
    assert done.returncode == 71
    assert done.stderr == "pgdoorman: the daemon died before it was ready\n"


def test_one_that_raises() -> None:
    done = run("sys.exit(daemon.launch(lambda launcher: 1 // 0))")
    assert done.returncode == 71
    assert "ZeroDivisionError" in done.stderr


def test_an_interrupt_before_it_serves_ends_it_too(tmp_path: Path) -> None:
    begun, go_on, result = (tmp_path / name for name in ("begun", "go_on", "result"))
    launcher = subprocess.Popen(
        program(f"""
def serve(launcher):
    open({str(begun)!r}, "w").close()
    while not os.path.exists({str(go_on)!r}):
        time.sleep(0.01)
    try:
        launcher.ready()
    except ConfigError as exc:
        with open({str(result)!r}, "w") as file:
            file.write(exc.message)
    return 1
sys.exit(daemon.launch(serve))
"""),
        stderr=subprocess.DEVNULL,
    )
    eventually(begun.exists)
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(10) == -signal.SIGINT
    go_on.touch()
    eventually(lambda: result.exists() and "was ended before it was ready" in result.read_text())


def test_no_hub_before_the_fork(tmp_path: Path) -> None:
    """Neither by importing everything nor by reading and checking a configuration, with TLS, rules and systemd."""
    config = tmp_path / "pg_doorman.toml"
    text = '[general]\nadmin_username = "a"\nadmin_password = "a password"\n'
    config.write_text(f'{text}hba = ["127.0.0.0/8"]\nhost = "localhost"\n[web]\nenabled = true\n[pools]\n')
    done = run(f"""
from gevent._hub_local import get_hub_if_exists
from pgdoorman_lib import start
os.environ["NOTIFY_SOCKET"] = {str(tmp_path / "notify")!r}
def fork():
    print("hub:", get_hub_if_exists())
    sys.exit(0)
daemon._fork = fork
start.run({str(config)!r}, log_level="info", log_format="text", color=False, daemon=True)
""")
    assert done.stdout == "hub: None\n", done.stderr


def close(*numbers: int) -> Callable[[], None]:
    """What closes these in a process that is started."""

    def closed() -> None:
        for number in numbers:
            os.close(number)

    return closed


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_the_daemon_of_closed_descriptors(closed: tuple[int, ...]) -> None:
    done = subprocess.run(
        program("sys.exit(daemon.launch(lambda launcher: 5))"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=close(*closed),
        timeout=30,
    )
    assert done.returncode == 5


def test_closed_descriptors_are_nobody_elses(tmp_path: Path) -> None:
    """Also once what Python prints goes to syslog."""
    found = tmp_path / "found"
    text = f"""
log.direct("text", None, "doorman", {str(tmp_path / "syslog")!r})
log.detach()
with open({str(found)!r}, "w") as file:
    file.write(" ".join(os.readlink(f"/proc/self/fd/{{number}}") for number in range(3)))
"""
    subprocess.run(program(text), preexec_fn=close(0, 1, 2), timeout=30, check=True)
    assert found.read_text() == "/dev/null /dev/null /dev/null"
