"""Where the repository, the data of the tests and what lies beside it are, and Python in a process
of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STORED = ROOT / "tests" / "data"
SHARED = ROOT.parent / "shared"


def python(*words, cwd=ROOT, environment=(), **options):
    """`python WORDS` to its end, with more variables in its environment."""
    argv = [sys.executable, *map(str, words)]
    env = {**os.environ, **dict(environment)}
    return subprocess.run(argv, cwd=cwd, env=env, text=True, capture_output=True, **options)
