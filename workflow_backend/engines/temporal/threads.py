"""The threads on which workflow code runs, with room for deeply nested expressions."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from typing_extensions import override

# The parser of expressions recurses; their bound is measured against a main thread's 8 MiB.
STACK_BYTES = 16 * 1024 * 1024

_starting = threading.Lock()


class RoomyThreads(ThreadPoolExecutor):
    """A pool whose threads have a large stack; only what is used of it takes memory."""

    @override
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        # A pool starts its threads in `submit`; the size is a setting of the whole process.
        with _starting:
            before = threading.stack_size(STACK_BYTES)
            try:
                return super().submit(fn, *args, **kwargs)
            finally:
                threading.stack_size(before)
