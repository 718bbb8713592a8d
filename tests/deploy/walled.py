"""`python walled.py DIRECTORY... -- COMMAND...`: runs a command that can write nowhere but below the directories.

Stands in for a container's read-only root: Landlock (linux/landlock.h), which needs no root. Linux from 6.2 has it
where it is switched on.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_NO_NEW_PRIVILEGES = 38
# WRITE_FILE, REMOVE_DIR, REMOVE_FILE, seven times MAKE_, REFER and TRUNCATE: all that changes a file system.
_WRITES = 1 << 1 | 0b111111111 << 4 | 1 << 13 | 1 << 14
_libc = ctypes.CDLL(None, use_errno=True)


def wall_is_possible() -> bool:
    """Whether this kernel has Landlock with all that is asked of it."""
    return bool(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION) >= 3)


def wall_in(writable: Sequence[str]) -> None:
    """From here on this process and its children write below these directories and to devices only."""
    handled = ctypes.create_string_buffer(struct.pack("<Q", _WRITES))
    rules = _checked(_libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(8), 0))
    for directory in (*writable, "/dev"):
        at = os.open(directory, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("<Qi", _WRITES, at))
        _checked(_libc.syscall(_ADD_RULE, rules, 1, rule, 0))
        os.close(at)
    _checked(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(_libc.syscall(_RESTRICT_SELF, rules, 0))
    os.close(rules)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


if __name__ == "__main__":
    between = sys.argv.index("--")
    wall_in(sys.argv[1:between])
    os.execvp(sys.argv[between + 1], sys.argv[between + 1 :])
