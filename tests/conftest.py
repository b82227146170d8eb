"""What every test is given: one thread, small pictures, the signal handlers it found; and the sets
scored by the official evaluators."""

import shutil
import signal

import pytest
import torch
from places import STORED

from report import figures, page


@pytest.fixture(autouse=True, scope="session")
def little_work():
    """One thread, since the tests run in two processes and their sets are small; pictures of few
    pixels and without fonts of their own, since encoding those of a run takes longer than its
    training here; pages of few draws and a small grid of lambda and gamma.
    """
    torch.set_num_threads(1)
    figures.STYLE.update({"savefig.dpi": 40, "pdf.use14corefonts": True})
    page.DRAWS, page.LAMBDAS, page.GAMMAS = 20, (0.0, 1.0), (0.0, 0.2)


@pytest.fixture(autouse=True)
def signal_handlers():
    """A command that was told to stop leaves the signals ignored, for the process to end in
    peace.
    """
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    yield
    for s, handler in before.items():
        signal.signal(s, handler)


@pytest.fixture(scope="session")
def golden_sets(tmp_path_factory):
    """The folder of the sets scored by the official evaluators; tests/data/README.md describes
    them.
    """
    folder = tmp_path_factory.mktemp("golden_sets")
    shutil.unpack_archive(STORED / "eval_golden.zip", folder)
    return folder
