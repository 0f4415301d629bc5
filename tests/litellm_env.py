"""Runs the tests of the litellm adapter in an environment of their own.

    python tests/litellm_env.py [--folder FOLDER]

litellm pins versions that the rest does not, so it has its own lock file. The environment is made
once and again when the lock file changes; then it takes seconds.
"""

import argparse
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "litellm.txt"
# The shared fixtures need tools that this environment does not have, and these tests none of them.
PYTEST = ["-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider"]


def main() -> int:
    """The exit code of pytest, or of pip where the installation failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv-litellm")
    folder = parser.parse_args().folder.resolve()
    python = folder / "bin" / "python"
    stamp = folder / "lock.sha256"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != digest:
        venv.create(folder, clear=True, with_pip=True)
        # The lock file is whole, and one of its versions is not the one that litellm demands.
        install = ["-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", LOCK]
        installed = subprocess.run([python, *install], check=False)
        if installed.returncode:
            return installed.returncode
        stamp.write_text(digest)
    tests = sorted((ROOT / "tests" / "providers").glob("test_litellm_*.py"))
    return subprocess.run([python, *PYTEST, *tests], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
