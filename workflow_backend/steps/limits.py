"""Resource limits of a step, and the small shell script that puts them on.

The script is the first thing in every step's process. It waits for a line on its standard input, so
that the reaper knows the process group before anything of the step runs; if the engine dies before
that, the script ends. POSIX sh, so that it needs no interpreter of ours (1 ms instead of 20).
"""

from dataclasses import dataclass

_KIB = 1024
_BLOCK = 512


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What one step may use at most.

    `data_bytes` bounds what a process may write to in memory (RLIMIT_DATA), not its address space:
    node and the JVM reserve far more than they use and fail under RLIMIT_AS. `processes` counts all
    processes of the user, and does not bind root (setrlimit(2)). `timeout_seconds` bounds every
    attempt, whatever its step says.
    """

    cpu_seconds: int = 3_600
    data_bytes: int = 4 * 1024**3
    file_bytes: int = 4 * 1024**3
    open_files: int = 1_024
    processes: int = 4_096
    timeout_seconds: float = 3_600.0
    term_grace_seconds: float = 5.0
    stdout_characters: int = 256 * 1024
    live_bytes: int = 64 * 1024
    output_file_bytes: int = 1024 * 1024
    log_bytes: int = 64 * 1024**2


def launcher(limits: StepLimits, argv: list[str]) -> list[str]:
    """The command line that waits for a line, puts the limits on and becomes `argv`."""
    return ["/bin/sh", "-c", _script(limits), "step", *argv]


def _script(limits: StepLimits) -> str:
    # A limit that the system already holds lower cannot be raised: then the lower one stays.
    return (
        "read -r go || exit 125; umask 077; {"
        f" ulimit -c 0; ulimit -t {limits.cpu_seconds}; ulimit -d {limits.data_bytes // _KIB};"
        f" ulimit -f {limits.file_bytes // _BLOCK}; ulimit -n {limits.open_files};"
        f" ulimit -u {limits.processes} || ulimit -p {limits.processes};"
        ' } 2>/dev/null; exec "$@" </dev/null'
    )
