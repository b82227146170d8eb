"""What a program prints and how it ends: lines that are also in RUN/log.txt, progress, signals, one
line for an error.
"""

import contextlib
import logging
import signal
import sys
import time

from tqdm import tqdm

from engine.distributed import world
from formats.files import InputError, print_on_any_terminal, silence
from formats.program import log

# seconds between lines of progress where there is no terminal
EVERY = 60
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """A signal asked the process to stop. Like KeyboardInterrupt no Exception, which code could
    take for an error.
    """

    def __init__(self, signum):
        super().__init__(signum)
        self.signum = signum


@contextlib.contextmanager
def signals(restore=True):
    """Ctrl-C, SIGTERM and SIGHUP raise Stopped inside the block.

    restore: give the handlers back that were there before. A program that ends anyway does not, so
    that a second signal on the heels of the first finds nothing to interrupt. Outside the main
    thread Python admits no handlers.
    """

    def handler(signum, _):
        raise Stopped(signum)

    before = {}
    with contextlib.suppress(ValueError):
        before = {number: signal.signal(number, handler) for number in STOPS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old if restore else signal.SIG_IGN)


def ignore_signals():
    """For the end of a program: nothing is left to stop."""
    with contextlib.suppress(ValueError):
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)


class _Said(logging.Handler):
    """Says the warnings of the readers, each once."""

    def __init__(self, say):
        super().__init__(logging.WARNING)
        self.say, self.seen = say, set()

    def emit(self, record):
        line = f"warning: {record.getMessage()}"
        if line not in self.seen:
            self.seen.add(line)
            self.say(line)


class Console:
    """Prints for process 0, at once, and keeps every line for the run's log.txt."""

    def __init__(self):
        self.lines, self.path = [], None
        print_on_any_terminal()
        log.handlers = [handler for handler in log.handlers if not isinstance(handler, _Said)]
        log.addHandler(_Said(self.say))

    def keep_in(self, path):
        """From here on lines go to the file at `path` too, those before included."""
        self.path = path
        lines, self.lines = self.lines, []
        for line in lines:
            self._keep(line)

    def say(self, text=""):
        if world()[0] != 0:
            return
        printed(text)
        self._keep(text)

    def _keep(self, text):
        if self.path is None:
            self.lines.append(text)
            return
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{text}\n")
        except OSError as error:
            raise InputError(
                f"{self.path}: found {error.strerror or error}, expected to write there"
            ) from None


def printed(text, stream=None):
    """Prints at once. Where nobody reads any more (`| head`), or the disk is full, the program goes
    on without.
    """
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    # ValueError: the stream has been closed
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            silence(stream)


class Bar(tqdm):
    """tqdm, whose destructor calls `close` and fails there on a bar that a signal stops while it is
    made.
    """

    def close(self):
        # the last attribute that tqdm sets
        if hasattr(self, "start_t"):
            super().close()


class Progress:
    """The epochs of one training: a bar on a terminal, else a line each minute."""

    def __init__(self, title, epochs, say):
        self.title, self.epochs, self.say = title, epochs, say
        self.done, self.began, self.said = 0, time.monotonic(), time.monotonic()
        terminal = sys.stderr is not None and sys.stderr.isatty() and world()[0] == 0
        self.bar = Bar(total=epochs, desc=title, unit="epoch") if terminal else None

    def update(self, losses):
        """One epoch is done. losses: {name: mean}."""
        self.done += 1
        now = time.monotonic()
        if self.bar is not None:
            self.bar.update()
        elif now - self.said > EVERY:
            self.said = now
            left = (now - self.began) / self.done * (self.epochs - self.done)
            values = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
            self.say(
                f"  {self.title}: epoch {self.done} of {self.epochs}, loss {values}, about "
                f"{left / 60:.0f} min left"
            )

    def close(self):
        if self.bar is not None:
            self.bar.close()


def name_of(signum):
    return signal.Signals(signum).name


def end(code, line, once=False):
    """Ends the program with a line on stderr. once: every process comes here, and process 0 prints
    for all.
    """
    ignore_signals()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    if sys.stderr is not None and (not once or world()[0] == 0):
        printed(line, sys.stderr)
    raise SystemExit(code)
