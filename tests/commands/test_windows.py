"""The commands in processes from which everything is taken that Windows lacks: simulated, since
these tests run elsewhere."""

import commands
import pytest
from commands import FLAGS, words
from places import ROOT, python

from engine.run_folder import CHECKPOINT, LOG

pytestmark = pytest.mark.slow

# Python runs this file first in every process, the children of reproduce.py included. What filelock
# and NumPy use off Windows stays: fcntl in a filelock that is imported before, and os.uname.
WINDOWS = """
import ctypes, os, signal, sys
import filelock

for name in (
    "pread preadv pwrite pwritev sysconf sched_getaffinity sched_setaffinity fork forkpty getuid "
    "geteuid getgid getegid getpgid getpgrp setsid killpg nice statvfs mkfifo chown getloadavg"
).split():
    delattr(os, name)
for name in "SIGHUP SIGKILL SIGQUIT SIGALRM SIGUSR1 SIGUSR2 SIGPIPE SIGCHLD alarm pause".split():
    delattr(signal, name)
for name in "fcntl resource pwd grp termios tty pty syslog".split():
    sys.modules[name] = None  # import raises ImportError


class CDLL(ctypes.CDLL):
    def __init__(self, name, *args, **kwargs):
        if name is None:
            raise TypeError("argument of type 'NoneType' is not iterable")
        super().__init__(name, *args, **kwargs)


ctypes.CDLL = CDLL
steps = int(os.environ.get("STOP_AT_LOG", 0))


def hook(event, args):
    global steps
    if event in ("open", "os.listdir", "os.scandir"):
        path = str(args[0])
        if path.startswith(("/proc", "/sys")):
            raise FileNotFoundError(2, "No such file or directory", path)
        if event == "open" and path.endswith("log.jsonl") and steps:
            steps -= 1
            if not steps:
                os._exit(9)


sys.addaudithook(hook)
"""


@pytest.fixture
def windows(tmp_path):
    """Runs `python WORDS` as on Windows; returns what it printed."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WINDOWS)

    def command(*words, code=0, **environment):
        environment["PYTHONPATH"] = str(tmp_path / "site")
        done = python(*words, environment=environment)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
        return done.stdout

    return command


def test_training_resume_predict_and_reproduce(windows, tmp_path):
    lacks = "import os, ctypes; print(hasattr(os, 'pread'), ctypes.CDLL.__module__)"
    assert windows("-c", lacks).split() == ["False", "sitecustomize"]
    flags = commands.write_set(tmp_path / "data")
    stopped, program = tmp_path / "stopped", ROOT / "run.py"
    windows(program, *flags, "--out", tmp_path / "here")
    windows(program, *flags, "--out", stopped, code=9, STOP_AT_LOG="12")
    assert (stopped / CHECKPOINT).exists() and (stopped / LOG).exists()
    windows(program, "--resume", stopped)
    assert commands.remains(stopped) == commands.remains(tmp_path / "here")
    features = tmp_path / "data" / "features.h5"
    windows(program, "--predict", stopped, "--features", features, "--out", tmp_path / "found")
    assert (tmp_path / "found" / "detections.json").exists()
    own = flags[: -len(FLAGS)]  # reproduce.py chooses the methods itself
    short = words("--cycle 1 --cycle-epochs 2 --alternate-epochs 0 --untrimmednet-epochs 1")
    ours = [*own, *short, "--out", tmp_path / "paper", "--seeds", "2", "--jobs", "2"]
    windows(ROOT / "reproduce.py", "lambda", *ours)
    assert list((tmp_path / "paper").rglob("lambda.csv"))
