"""What a command prints, wherever its output goes, and how it ends."""

import errno
import gc
import io
import os
import signal
import sys
import threading
from types import SimpleNamespace

import pytest

from formats import program as module
from formats.files import InputError
from formats.program import Bar, Progress, Stopped, keep_log, log, program

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ends(block, advice=lambda: "", last=False):
    """Runs a block as a command that must end the process: its exit code."""
    with pytest.raises(SystemExit) as stopped, program(advice, last):
        block()
    return stopped.value.code


def told(number):
    os.kill(os.getpid(), number)


# ---- lines
def test_the_file_has_the_lines_of_the_screen_also_those_before_it(tmp_path, capsys):
    path = tmp_path / "log.txt"
    for lines in (["first", ""], ["of the process that resumes"]):
        with program():
            log.info(lines[0])
            keep_log(path)
            for line in (*lines[1:], "± and its end\nin two"):
                log.info(line)
    shown = "first\n\n± and its end\nin two\nof the process that resumes\n± and its end\nin two\n"
    assert path.read_text(encoding="utf-8") == capsys.readouterr().out == shown


def test_a_warning_is_marked_and_shown_once(capsys):
    for _ in range(2):  # a second command in one process shows its own
        with program():
            for line in ("odd", "odd", "other"):
                log.warning(line)
            log.info("odd")
    assert capsys.readouterr().out == "warning: odd\nwarning: other\nodd\n" * 2


def test_process_0_speaks_for_all(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(log, "disabled", True)  # as join_processes sets it in the others

    def block():
        log.info("a line")
        log.warning("odd")
        told(signal.SIGTERM)

    assert ends(block) == 143
    with pytest.raises(SystemExit), program():
        raise InputError("")  # process 0 reports it
    assert capsys.readouterr() == ("", "")
    with pytest.raises(SystemExit), program():
        raise InputError("found by this one")
    assert capsys.readouterr().err == "error: found by this one\n"


def ascii_only(_):
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


def unread(_):
    read, write = os.pipe()
    os.close(read)
    return open(write, "w")


def closed(_):
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    "stream", [ascii_only, unread, closed, lambda _: None, lambda _: open("/dev/full", "w")]
)
def test_the_program_goes_on_whatever_its_output_is(stream, tmp_path, monkeypatch):
    """As with an ASCII terminal, `| head`, `>&-`, a full disk."""
    out = stream(0)
    monkeypatch.setattr(sys, "stdout", out)
    with program():
        keep_log(tmp_path / "log.txt")
        for line in ("28.9 ± 0.3", "the next"):
            log.info(line)
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "28.9 ± 0.3\nthe next\n"
    if stream is ascii_only:
        assert out.buffer.getvalue() == b"28.9 ? 0.3\nthe next\n"
    monkeypatch.setattr(sys, "stderr", stream(1))
    assert ends(lambda: told(signal.SIGHUP)) == 129
    for _ in Bar(range(3), disable=None):
        pass


def test_signs_that_steer_a_terminal_are_blanks(tmp_path, capsys):
    with program():
        keep_log(tmp_path / "log.txt")
        log.warning("a\x1b[31m\rb\nc")
    for text in (capsys.readouterr().out, (tmp_path / "log.txt").read_text()):
        assert text == "warning: a [31m b\nc\n"


def test_a_log_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "log.txt").symlink_to("/dev/full")

    def block():
        keep_log(tmp_path / "log.txt")
        log.info("a line")

    assert ends(block) == 2
    assert str(tmp_path / "log.txt") in capsys.readouterr().err


# ---- the end
def bad():
    raise InputError("file.h5: v1", "two\nlines", "one")


def full():
    raise OSError(errno.ENOSPC, "No space left on device", "a file")


@pytest.mark.parametrize(
    "block, code, line",
    [
        (bad, 2, "error: file.h5: v1: found two lines, expected one\n"),
        (full, 2, "error: a file: No space left on device\n"),
        (lambda: told(signal.SIGINT), 130, "stopped by SIGINT; go on\n"),
        (lambda: told(signal.SIGTERM), 143, "stopped by SIGTERM; go on\n"),
        (lambda: told(signal.SIGHUP), 129, "stopped by SIGHUP; go on\n"),
    ],
)
def test_one_line_and_a_code(capsys, block, code, line):
    before = [signal.getsignal(number) for number in HANDLED]
    assert (ends(block, lambda: "; go on"), capsys.readouterr().err) == (code, line)
    assert [signal.getsignal(number) for number in HANDLED] == before


def test_the_first_signal_ends_it_and_later_ones_find_nothing(capsys):
    def block():
        try:
            told(signal.SIGTERM)
        finally:  # what the block cleans up is not interrupted
            told(signal.SIGINT)
            log.info("cleaned up")

    assert ends(block, last=True) == 143
    assert {signal.getsignal(number) for number in HANDLED} == {signal.SIG_IGN}  # to its end
    for number in HANDLED:
        signal.signal(
            number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler
        )
    assert capsys.readouterr() == ("cleaned up\n", "stopped by SIGTERM\n")


def test_a_stop_is_no_error_that_code_deals_with():
    assert not issubclass(Stopped, Exception)


def test_outside_the_main_thread(capsys):
    """Python sets no signal handlers there."""

    def command():
        with program():
            log.info("a line")

    thread = threading.Thread(target=command)
    thread.start()
    thread.join()
    assert capsys.readouterr().out == "a line\n"


# ---- progress
class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream, disabled", [(Terminal, False), (Terminal, True)])
def test_a_bar_on_the_terminal_of_process_0(monkeypatch, caplog, stream, disabled):
    monkeypatch.setattr(sys, "stderr", stream())
    monkeypatch.setattr(log, "disabled", disabled)
    bar = Progress("EM-MIL", 3)
    for _ in range(3):
        bar.update({"rgb": 0.5})
    bar.close()
    shown = sys.stderr.getvalue()
    assert shown == "" if disabled else "EM-MIL: 100%" in shown and "3/3" in shown
    assert not caplog.messages


def test_a_line_a_minute_where_there_is_no_terminal(monkeypatch, caplog):
    """An epoch takes 40 s: the second is the first after more than a minute, and so is every second
    one after it.
    """
    seconds = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    caplog.set_level("INFO", "em-mil")
    bar = Progress("EM-MIL", 8)
    for k in range(5):
        seconds[0] += 40
        bar.update({"rgb": 0.5 - 0.1 * k, "flow": 0.25})
    bar.close()
    assert caplog.messages == [
        "  EM-MIL: epoch 2 of 8, loss rgb 0.4000, flow 0.2500, about 4 min left",
        "  EM-MIL: epoch 4 of 8, loss rgb 0.2000, flow 0.2500, about 3 min left",
    ]


@pytest.mark.parametrize("moment", ["__new__", "refresh"])
def test_stopped_while_the_bar_is_made(moment, monkeypatch):
    """tqdm's destructor fails on a bar that is half made; its lines would come after the one that
    the program says.
    """
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    monkeypatch.setattr(sys, "stderr", Terminal())
    inner = Bar.__new__

    def stopped(*_, **__):
        if moment == "__new__":
            inner(Bar)  # made, and not initialised
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(Bar, moment, stopped)
    with pytest.raises(Stopped):
        Progress("EM-MIL", 2)
    gc.collect()
    assert not ignored
