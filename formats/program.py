"""What a program prints and how it ends: log lines, progress, signals, one line for an error.

Modules write with `log.info` and `log.warning` where a thing is found. `program` shows the lines on
the screen, `keep_log` also keeps them in a file. In a notebook, warnings appear as Python shows
them.
"""

import contextlib
import logging
import logging.handlers
import os
import signal
import sys
import time

from tqdm import tqdm

from formats.files import InputError

log = logging.getLogger("em-mil")
# seconds between lines of progress where there is no terminal
EVERY = 60
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """A signal asked the program to stop. No Exception, like KeyboardInterrupt, so that no code
    takes it for an error.
    """

    def __init__(self, signum):
        super().__init__(signum)
        self.signum = signum


@contextlib.contextmanager
def program(advice=lambda: "", last=False):
    """Runs the block as a command: shows its log lines, and ends it with one line on stderr.

    Bad input and a failed write: "error: ..." and code 2. Ctrl-C, SIGTERM and SIGHUP: "stopped by
    ...", followed by `advice()`, and code 130, 143, 129; further signals are then ignored. last:
    the process ends with the block, so that they are ignored to its end.
    """
    with _signals(last), _screen():
        try:
            yield
        except Stopped as stopped:
            if not log.disabled:  # process 0 speaks for all
                printed(f"stopped by {signal.Signals(stopped.signum).name}{advice()}", sys.stderr)
            sys.exit(128 + stopped.signum)
        except InputError as error:
            if str(error):
                printed(f"error: {error}", sys.stderr)
            sys.exit(2)
        except OSError as error:
            where = error.filename2 or error.filename or "while writing"
            printed(f"error: {where}: {error.strerror or error}", sys.stderr)
            sys.exit(2)


@contextlib.contextmanager
def _signals(last):
    def handler(signum, _):
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise Stopped(signum)

    before = {}
    with contextlib.suppress(ValueError):  # Python has signal handlers in its main thread only
        before.update({number: signal.signal(number, handler) for number in STOPS})
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_IGN if last else old)


# ---- log lines
class _Lines(logging.Formatter):
    def format(self, record):
        text = record.getMessage()  # names in it may hold signs that steer a terminal
        text = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
        return f"warning: {text}" if record.levelno == logging.WARNING else text


class _Screen(logging.Handler):
    def emit(self, record):
        with Bar.external_write_mode(nolock=True):  # a bar makes room for the line
            printed(self.format(record), sys.stdout)


class _Kept(logging.handlers.MemoryHandler):
    """Lines in memory until `keep_log` names their file."""

    def shouldFlush(self, record):
        return self.target is not None


@contextlib.contextmanager
def _screen():
    """Shows log lines inside the block; a warning that comes a second time is left out."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:  # tqdm needs one
            setattr(sys, name, open(os.devnull, "w"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an ASCII terminal shows ? for ±
    seen = set()

    def once(record):
        line = record.getMessage()
        again = record.levelno == logging.WARNING and line in seen
        seen.add(line)
        return not again

    handlers = [_Screen(), _Kept(0)]
    log.setLevel(logging.INFO)
    log.addFilter(once)
    for handler in handlers:
        handler.setFormatter(_Lines())
        log.addHandler(handler)
    try:
        yield
    finally:
        log.removeFilter(once)
        for handler in handlers:
            log.removeHandler(handler)
            if isinstance(handler, _Kept) and handler.target:
                with contextlib.suppress(OSError):  # a full disk, which has been reported
                    handler.target.close()


def keep_log(path):
    """From here on, log lines also go to the file at `path`, those before included."""

    def refuse(_):
        error = sys.exc_info()[1]
        raise InputError(
            path, getattr(error, "strerror", None) or error, "to write there"
        ) from None

    for handler in log.handlers:
        if isinstance(handler, _Kept):
            target = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
            target.setFormatter(_Lines())
            target.handleError = refuse
            handler.setTarget(target)
            handler.flush()


def printed(text, stream):
    """Prints at once. Where nobody reads on (`| head`), or the disk is full, what follows is lost
    and the program goes on.
    """
    try:
        print(text, file=stream, flush=True)
    except (AttributeError, OSError, ValueError):  # no such stream, broken, closed
        with contextlib.suppress(AttributeError, OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# ---- progress
class Bar(tqdm):
    """tqdm whose `close` is safe if a signal interrupts its constructor."""

    def close(self):
        if hasattr(self, "start_t"):  # the last attribute that tqdm sets
            super().close()


class Progress:
    """The epochs of one training: a bar on a terminal, else a line each minute."""

    def __init__(self, title, epochs):
        self.title, self.epochs = title, epochs
        self.done, self.began, self.said = 0, time.monotonic(), time.monotonic()
        terminal = sys.stderr is not None and sys.stderr.isatty() and not log.disabled
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
            log.info(
                f"  {self.title}: epoch {self.done} of {self.epochs}, loss {values}, about "
                f"{left / 60:.0f} min left"
            )

    def close(self):
        if self.bar is not None:
            self.bar.close()
