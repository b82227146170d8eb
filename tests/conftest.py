"""What every test is given: the signal handlers it found are put back."""

import signal

import pytest


@pytest.fixture(autouse=True)
def signal_handlers():
    """A command that was told to stop leaves the signals ignored, for the process to end in
    peace.
    """
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    yield
    for s, handler in before.items():
        signal.signal(s, handler)
