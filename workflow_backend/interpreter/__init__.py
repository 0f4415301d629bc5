"""The interpreter: walks a workflow's graph and asks a `Runtime` for everything that has an effect.

Pure and deterministic: no clock, no random, no environment, no IO. What it does depends on the
workflow, its inputs and the answers of the runtime, which are asked for by stable keys: so a run
goes on after a crash by being interpreted again from its beginning.
"""

from workflow_backend.interpreter.run import (
    INTERPRETER_VERSION,
    SUPPORTED_VERSIONS,
    Outcome,
    interpret,
)

__all__ = ["INTERPRETER_VERSION", "SUPPORTED_VERSIONS", "Outcome", "interpret"]
