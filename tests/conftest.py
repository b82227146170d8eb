"""What every test is given: one thread, small pictures, and the signal handlers it found."""

import signal

import pytest
import torch

from report import figures


@pytest.fixture(autouse=True, scope="session")
def little_work():
    """One thread, since the tests run in two processes and their sets are small; pictures of few
    pixels and without fonts of their own, since encoding those of a run takes longer than its
    training here.
    """
    torch.set_num_threads(1)
    figures.STYLE.update({"savefig.dpi": 40, "pdf.use14corefonts": True})


@pytest.fixture(autouse=True)
def signal_handlers():
    """A command that was told to stop leaves the signals ignored, for the process to end in
    peace.
    """
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    yield
    for s, handler in before.items():
        signal.signal(s, handler)
