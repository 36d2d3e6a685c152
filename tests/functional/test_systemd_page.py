"""What docs/systemd.md tells to type works on a real systemd, as it stands there; only the port is another.

The systemd is a user's one in a container of namespaces, where /etc, /opt and /run are its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from throwaway_postgres import free_port

ROOT = Path(__file__).resolve().parents[2]
PAGE, INSTALL = ROOT / "docs" / "systemd.md", ROOT / "docs" / "install.md"
SYSTEMD = "/lib/systemd/systemd"
CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--mount", "--cgroup"]

#: Makes the container. $1 is a directory of the test's, $2 the Python.
BEGINNING = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system "$1/etc" /run/shims /run/user
cp -a /etc/. "$1/etc/"
mount --bind "$1/etc" /etc
mkdir -p /etc/systemd/system /etc/pgdoorman
mount -t tmpfs tmpfs /opt
mkdir -p /opt/pgdoorman/bin
printf '#!/bin/sh\\nexec "%s" -m pgdoorman "$@"\\n' "$2" >/opt/pgdoorman/bin/pgdoorman
printf '#!/bin/sh\\nexec /usr/bin/systemctl --user "$@"\\n' >/run/shims/systemctl
chmod +x /opt/pgdoorman/bin/pgdoorman /run/shims/systemctl
export PATH="/run/shims:/opt/pgdoorman/bin:$PATH" XDG_RUNTIME_DIR=/run HOME="$1"
export SYSTEMD_UNIT_PATH=/etc/systemd/system:/usr/lib/systemd/user
/lib/systemd/systemd --user --unit=basic.target --log-target=console >"$1/systemd.log" 2>&1 &
until systemctl is-system-running >/dev/null 2>&1; do sleep 0.1; done
"""

#: What a user's systemd may not do for a service, and that it finds the program as the tests do.
HERE = """
[Service]
User=
ProtectSystem=no
ProtectHome=no
ProtectClock=no
ProtectControlGroups=no
ProtectHostname=no
ProtectKernelLogs=no
ProtectKernelModules=no
ProtectKernelTunables=no
PrivateDevices=no
PrivateTmp=no
"""

CONFIG = """
[general]
host = "0.0.0.0"
port = 6432
unix_socket_dir = "/run/pgdoorman"
log_file = "{home}/pgdoorman.log"
admin_username = "admin"
admin_password = "a secret of ours"
[pools]
"""


def can_contain() -> bool:
    if shutil.which("unshare") is None or not Path(SYSTEMD).exists():
        return False
    return subprocess.run([*CONTAINER, "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True).returncode == 0


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", ["pgdoorman.service", "pgdoorman.socket"])
def test_the_unit_is_valid(tmp_path: Path, unit: str) -> None:
    """With the program where a test finds one."""
    for path in (ROOT / "conf").glob("pgdoorman.*"):
        text = path.read_text("utf-8").replace("/opt/pgdoorman/bin/pgdoorman", sys.executable)
        (tmp_path / path.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], cwd=tmp_path, capture_output=True, text=True, timeout=30,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_the_page(tmp_path: Path) -> None:
    if not can_contain():
        pytest.skip("needs systemd, and root's right to make namespaces")
    port = str(free_port())
    (first, look, sockets) = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert first.startswith(
        next(b for b in re.findall(r"```sh\n(.*?)```", INSTALL.read_text("utf-8"), re.DOTALL) if "enable" in b)
    )
    (tmp_path / "config").write_text(CONFIG.format(home=tmp_path).replace("6432", port))
    (tmp_path / "here").write_text(HERE)
    script = f"""
{BEGINNING}
install -m 0600 {tmp_path}/config /etc/pgdoorman/pg_doorman.toml
install -D {tmp_path}/here /etc/systemd/system/pgdoorman.service.d/here.conf
sed -i /SocketUser=/d conf/pgdoorman.socket
echo "=== first"
{first}
echo "=== look"
{look}
PID=$(systemctl show pgdoorman --property=MainPID --value)
echo nonsense >>/etc/pgdoorman/pg_doorman.toml
echo "=== refused"
! systemctl reload pgdoorman 2>/dev/null
kill -HUP "$PID"
until systemctl show pgdoorman --property=StatusText | grep refused; do sleep 0.2; done
sed -i '$d' /etc/pgdoorman/pg_doorman.toml
echo "=== sockets"
{sockets}
systemctl show pgdoorman --property=ActiveState,StatusText
{sys.executable} - <<'END'
import socket
for family, address in (socket.AF_INET, ("127.0.0.1", 6432)), (socket.AF_UNIX, "/run/pgdoorman/.s.PGSQL.6432"):
    with socket.socket(family) as client:
        client.connect(address)
        client.sendall(bytes((0, 0, 0, 8, 4, 210, 22, 47)))
        print("answer", client.recv(1))
END
echo "=== end"
systemctl stop pgdoorman.socket pgdoorman
systemctl show pgdoorman --property=ActiveState,Result,NRestarts
"""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "conf", copy / "conf")
    for path in (copy / "conf").glob("pgdoorman.*"):
        path.write_text(path.read_text("utf-8").replace("6432", port))
    done = subprocess.run(
        [*CONTAINER, "sh", "-c", script.replace("6432", port), "sh", str(tmp_path), sys.executable], cwd=copy,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    log = tmp_path / "pgdoorman.log"
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{(tmp_path / 'systemd.log').read_text()}"
    parts = dict(part.split("\n", 1) for part in re.split("^=== ", done.stdout, flags=re.MULTILINE)[1:])
    assert re.search(r"Active: active \(running\)", parts["first"])
    assert 'Status: "0 clients, 0 servers"' in parts["first"]
    assert "ActiveState=active" in parts["look"]
    assert "the last reload was refused, see the log" in parts["refused"]
    assert "ActiveState=active" in parts["sockets"]
    assert parts["sockets"].count("answer b'N'") == 2
    assert "ActiveState=inactive" in parts["end"] and "Result=success" in parts["end"] and "NRestarts=0" in parts["end"]
    text = log.read_text()
    assert text.count("is ready") == 3
    assert "handed over" not in text and "Traceback" not in text
