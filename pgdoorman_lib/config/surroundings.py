"""What is odd about the machine that a configuration is to run on: who runs it, and the files and directories it names.

Nothing of it makes the configuration wrong: these are warnings, for ``-t`` and at each start.
"""

from __future__ import annotations

import os
import stat

from pgdoorman_lib.config.model import Config
from pgdoorman_lib.config.tokens import private_key_files
from pgdoorman_lib.wire.unix_socket import socket_path

#: Bytes of a unix socket's path (sun_path in unix(7), less its null byte).
MAX_SOCKET_PATH = 107


def notices(config: Config) -> list[str]:
    """Texts for the operator, each naming the key or file it is about and what to do."""
    found = [*_socket_directory(config), *_log_file(config), *_readable_secrets(config)]
    if os.geteuid() == 0:
        found.append("running as root, which is never needed: give the process a user of its own")
    return found


def _socket_directory(config: Config) -> list[str]:
    directory = config.general.unix_socket_dir
    if directory is None:
        return []
    key = f"general.unix_socket_dir: '{directory}'"
    if not os.path.isdir(directory):
        return [f"{key} is not there or no directory: a start will fail until it is made"]
    if not os.access(directory, os.W_OK | os.X_OK):
        return [f"{key} can't be written to by user {os.geteuid()}: a start will fail"]
    path = socket_path(directory, config.general.port)
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        return [f"{key} is too long: the socket's path may have {MAX_SOCKET_PATH} bytes, {path} has more"]
    return []


def _log_file(config: Config) -> list[str]:
    """Without making it, whether it could be written to."""
    path = config.general.log_file
    if path is None or os.access(path, os.W_OK):
        return []
    directory = os.path.dirname(path) or "."
    if not os.path.exists(path) and os.access(directory, os.W_OK | os.X_OK):
        return []
    return [f"general.log_file: '{path}' can't be written to by user {os.geteuid()}: a start will fail"]


def _readable_secrets(config: Config) -> list[str]:
    """The files with passwords or private keys that every user of the machine can read."""
    keys = [config.general.tls_private_key, config.general.server_tls_private_key]
    keys += [pool.server_tls_private_key for pool in config.pools.values()]
    keys += private_key_files(config.pools.values())
    rules = config.general.pg_hba
    if rules is not None and "ldapbindpasswd" in rules.text:
        keys.append(rules.path)
    found = []
    for path in dict.fromkeys((*config.secret_files, *(key for key in keys if key is not None))):
        try:
            readable = os.stat(path).st_mode & stat.S_IROTH
        except OSError:
            continue  # read a moment ago, gone by now: there is nothing to read
        if readable:
            found.append(f"{path} holds secrets and can be read by everybody: chmod o-r {path}")
    return found
