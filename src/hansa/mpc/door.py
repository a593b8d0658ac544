"""Nobody connects to a link that stands: SPU's server takes plain connections beside TLS, and cannot be told not to.

A stranger who reaches the port could hand it messages without any certificate. What belongs to a link carries the
link's name, which is random and known to the parties alone; so such messages go nowhere. But they would fill memory,
and a name might become known: therefore the port takes no new connection once all parties have theirs.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
import sys

_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A filter of one instruction: no packet passes (see the kernel's networking/filter documentation)."""


def shut() -> int:
    """Let the listening sockets of this process drop what arrives; those that are connected go on. Gives their number.

    Works on Linux only, and does nothing elsewhere.
    """
    count = 0
    if sys.platform != "linux":
        return count
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as found:
                internet = found.family in (socket.AF_INET, socket.AF_INET6)
                if internet and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    _drop(found)
                    count += 1
        except FileNotFoundError:  # closed meanwhile
            continue
    return count


def _drop(listening: socket.socket) -> None:
    program = ctypes.create_string_buffer(_DROP_ALL, len(_DROP_ALL))
    listening.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
