"""What keeps the backend's process to itself: no core dump or debugger, private files.

Guarantees, where the system has the means: another process of the same user cannot read its memory
(Linux: `PR_SET_DUMPABLE` 0, see prctl(2); it also makes /proc/PID/environ root's), and
files that it makes are its user's alone.
"""

import ctypes
import logging
import os
import resource
import sys
from typing import NoReturn

_PR_SET_DUMPABLE = 4


def guard_process() -> None:
    """Protect this process; a means that the system lacks is left out."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def end_at_once(code: int) -> NoReturn:
    """End the process without the interpreter's own end, once all is closed and written.

    The threads of Temporal's SDK may abort a process that ends while they do (temporalio/sdk-python
    issue 300); nothing that is left to do there is of use.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    logging.shutdown()
    os._exit(code)
