"""What a program prints, wherever its output goes, and how it ends."""

import gc
import io
import os
import signal
import sys
import threading
from types import SimpleNamespace

import commands
import pytest
from commands import FORKS
from places import ROOT

import dataset
import run
from engine import console, distributed, run_folder
from engine.console import (
    Console,
    Progress,
    Stopped,
    end,
    ignore_signals,
    name_of,
    printed,
    signals,
)

SHORT = (
    "--cycle 1 --cycle-epochs 2 --alternate-epochs 1 --untrimmednet-epochs 2 --wtalc-iterations 10"
).split()
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    return [*commands.write_set(tmp_path_factory.mktemp("data")), *SHORT]


# ------------------------------------------------------------------------------------------------
# lines
def test_a_console_keeps_the_lines_that_came_before_the_file(tmp_path, capsys):
    out, path = Console(), tmp_path / "log.txt"
    out.say("first")
    out.say()
    assert not path.exists()
    out.keep_in(path)
    out.say("± second\nand its end")
    assert (
        path.read_text(encoding="utf-8")
        == capsys.readouterr().out
        == "first\n\n± second\nand its end\n"
    )
    other = Console()  # of the process that resumes the run
    other.keep_in(path)
    other.say("third")
    assert path.read_text(encoding="utf-8").splitlines() == [
        "first",
        "",
        "± second",
        "and its end",
        "third",
    ]


def test_log_txt_holds_what_a_run_prints(flags, tmp_path, capsys):
    run.main([*flags, "--out", str(tmp_path / "run")])
    printed_lines = capsys.readouterr().out
    assert (tmp_path / "run/log.txt").read_text(encoding="utf-8") == printed_lines
    assert "EM-MIL" in printed_lines and f"Files: {tmp_path / 'run'}/" in printed_lines


def test_process_0_prints_for_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(console, "world", lambda: (1, 2))
    out = Console()
    out.keep_in(tmp_path / "log.txt")
    out.say("a line")
    with pytest.raises(SystemExit):
        end(2, "error: found by all", once=True)
    assert capsys.readouterr() == ("", "") and not (tmp_path / "log.txt").exists()
    with pytest.raises(SystemExit):
        end(2, "error: found by this one")
    assert capsys.readouterr() == ("", "error: found by this one\n")


def test_an_ascii_terminal_shows_a_question_mark(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Console().say("28.9 ± 0.3")
    assert raw.getvalue() == b"28.9 ? 0.3\n"


def test_a_pipe_that_nobody_reads(monkeypatch, tmp_path):
    """As with `| head -1`: the program goes on, and the log is whole."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        out = Console()
        out.keep_in(tmp_path / "log.txt")
        for k in range(3):
            out.say(f"line {k}")
    assert (tmp_path / "log.txt").read_text() == "line 0\nline 1\nline 2\n"


def test_a_full_disk_behind_the_output(monkeypatch):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        printed("a line")
        printed("another")


@pytest.mark.parametrize("how", ["none", "closed"])
def test_no_output_at_all(monkeypatch, tmp_path, how):
    """`>&-` leaves Python without sys.stdout; a caller may have closed it."""
    stream = None
    if how == "closed":
        stream = io.TextIOWrapper(io.BytesIO())
        stream.close()
    monkeypatch.setattr(sys, "stdout", stream)
    out = Console()
    out.keep_in(tmp_path / "log.txt")
    out.say("a line")
    assert (tmp_path / "log.txt").read_text() == "a line\n"
    run.program(["--dry-run"])
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(SystemExit) as ended:
        end(2, "error: nobody sees it")
    assert ended.value.code == 2


# ------------------------------------------------------------------------------------------------
# progress
def test_lines_of_progress_where_there_is_no_terminal(monkeypatch):
    """An epoch takes 40 s: the second is the first after more than a minute, and so is every second
    one after it.
    """
    seconds, lines = [0.0], []
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = Progress("EM-MIL", 8, lines.append)
    for k in range(5):
        seconds[0] += 40
        bar.update({"rgb": 0.5 - 0.1 * k, "flow": 0.25})
    bar.close()
    assert lines == [
        "  EM-MIL: epoch 2 of 8, loss rgb 0.4000, flow 0.2500, about 4 min left",
        "  EM-MIL: epoch 4 of 8, loss rgb 0.2000, flow 0.2500, about 3 min left",
    ]
    assert sys.stderr.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    lines = []
    bar = Progress("EM-MIL", 3, lines.append)
    for _ in range(3):
        bar.update({"rgb": 0.5})
    bar.close()
    assert "EM-MIL: 100%" in sys.stderr.getvalue() and "3/3" in sys.stderr.getvalue() and not lines


def test_no_bar_of_the_other_processes(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(console, "world", lambda: (1, 2))
    bar = Progress("EM-MIL", 1, print)
    bar.update({"rgb": 0.5})
    bar.close()
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize("moment", ["__new__", "refresh"])
def test_stopped_while_the_bar_is_made(moment, monkeypatch):
    """tqdm's destructor fails on a bar that is half made; its lines would come after the one that
    the program says.
    """
    ignored = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    monkeypatch.setattr(sys, "stderr", Terminal())
    inner = console.Bar.__new__

    def stopped(*_, **__):
        if moment == "__new__":
            inner(console.Bar)  # made, and not initialised
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(console.Bar, moment, stopped)
    with pytest.raises(Stopped):
        Progress("EM-MIL", 2, print)
    gc.collect()
    assert not ignored


# ------------------------------------------------------------------------------------------------
# signals
def test_signals_raise_inside_the_block_and_the_handlers_are_given_back():
    before = [signal.getsignal(number) for number in HANDLED]
    for number in HANDLED:
        with pytest.raises(Stopped) as stopped, signals():
            os.kill(os.getpid(), number)
            signal.pause()
        assert stopped.value.signum == number and name_of(number) == number.name
    assert [signal.getsignal(number) for number in HANDLED] == before


def test_stopped_is_no_error_that_code_deals_with():
    assert not issubclass(Stopped, Exception)


def test_a_program_that_ends_leaves_the_signals_ignored():
    before = {number: signal.getsignal(number) for number in HANDLED}
    try:
        with signals(restore=False):
            pass
        assert {signal.getsignal(number) for number in HANDLED} == {signal.SIG_IGN}
        with signals():
            ignore_signals()
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_main_outside_the_main_thread(flags, tmp_path):
    """Python sets no signal handlers there."""
    ends = []
    thread = threading.Thread(
        target=lambda: ends.append(run.main([*flags, "--out", str(tmp_path / "run")]))
    )
    thread.start()
    thread.join()
    assert ends and set(ends[0]["methods"]) == {"em-mil", "wtalc"}
    assert (tmp_path / "run/results.json").exists()


@pytest.mark.parametrize("moment", ["loading", "while it ends"])
def test_main_gives_the_handlers_back_after_a_stop(flags, tmp_path, monkeypatch, capsys, moment):
    before = [signal.getsignal(number) for number in HANDLED]

    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(dataset, "load", stop)
    if moment == "while it ends":
        monkeypatch.setattr(distributed, "leave_processes", stop)
    with pytest.raises(SystemExit) as stopped:
        run.main([*flags, "--out", str(tmp_path / "run")])
    assert (stopped.value.code, capsys.readouterr().err) == (129, "stopped by SIGHUP\n")
    assert [signal.getsignal(number) for number in HANDLED] == before


@pytest.mark.parametrize("moment", ["the error is printed", "the folder is released"])
def test_a_signal_at_the_end_is_one_line_too(flags, tmp_path, monkeypatch, capsys, moment):
    """Told to stop while it ends anyway: with the error that it ends with, or with the signal's
    line.
    """

    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    if moment == "the error is printed":
        inner = console.end

        def told_to_stop(code, line, **more):
            if line.startswith("error"):
                stop()
            inner(code, line, **more)

        monkeypatch.setattr(console, "end", told_to_stop)
        argv = ["--dataset", "custom", "--out", str(tmp_path / "run")]
    else:
        monkeypatch.setattr(run_folder.RunFolder, "close", stop)
        argv = [*flags, "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        run.main(argv)
    assert stopped.value.code in (2, 143) and capsys.readouterr().err.count("\n") == 1


# ------------------------------------------------------------------------------------------------
# children
def broken_pipe(argv):
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)
    sys.stdout = open(1, "w", closefd=False)
    run.program(argv)


def closed(argv):
    os.close(1)
    sys.stdout = None
    run.program(argv)


@pytest.mark.slow
@pytest.mark.parametrize("output", [broken_pipe, closed])
def test_a_run_whose_output_nobody_reads(flags, tmp_path, output):
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    process = FORKS.Process(
        target=in_root, args=(output, [*flags, "--out", str(tmp_path / "run")], tmp_path / "err")
    )
    process.start()
    process.join(120)
    assert process.exitcode == 0 and (tmp_path / "err").read_text() == ""
    assert f"Files: {tmp_path / 'run'}/" in (tmp_path / "run/log.txt").read_text()
    assert (tmp_path / "run/results.json").exists()


def in_root(output, argv, err):
    os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT), 2)
    os.chdir(ROOT)
    output(argv)
