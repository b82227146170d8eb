"""Commands that are killed while they read and write, and called again."""

import re
import signal
from concurrent.futures import ThreadPoolExecutor

import commands
import convert_features
import extract_features
import feature_files
import numpy as np
import pytest

import run
from report import page

KILLS = 20
NEVER = 10**6
CLOCK = rb'"seconds": \{[^}]*\}|\d{4}-\d\d-\d\d \d\d:\d\d'


class Network:
    """In the place of I3D, which takes a second to load."""

    def features(self, clips):
        return np.full((len(clips), 1024), clips.mean(), np.float32)


def score():
    """run.py with a page as small as those of the other tests."""
    page.DRAWS, page.LAMBDAS, page.GAMMAS = 20, (0.0, 1.0), (0.0, 0.2)
    run.main()


def extract():
    extract_features.load_networks = lambda _: ({"rgb": Network()}, {"rgb_weights_sha256": "0"})
    extract_features.main()


CASES = {
    "evaluate": (score, "--evaluate {0}/run --lambda 0.5 --out {1}/out"),
    "predict": (score, "--predict {0}/run --features {0}/each --snippet-seconds 0.5 --out {1}/out"),
    "convert": (convert_features.main, "{0}/each {0}/each.json {1}/out.h5 --snippet-seconds 0.5"),
    "extract": (extract, "{0}/videos {1}/out.h5 --fps 5 --clip 3 --streams rgb"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a run, a set with a file for each video, and videos."""
    folder = tmp_path_factory.mktemp("data")
    flags = commands.write_set(folder / "set", n_train=4, n_test=3)
    run.main([*flags, "--method", "em-mil", "untrimmednet", "--out", str(folder / "run")])
    streams = feature_files.features(widths=(6, 5))
    feature_files.npz_files(folder / "each", streams)
    feature_files.write_json(folder / "each.json", feature_files.database(streams))
    return folder


def content(folder):
    """{path: bytes, without those that the clock decides} of everything in a folder."""
    found = {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}
    return {path.relative_to(folder): re.sub(CLOCK, b"", text) for path, text in found.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_killed_and_called_again(data, name):
    """The result is then the same, and nothing else is left."""
    program, line = CASES[name]
    if name == "extract":
        pytest.importorskip("av", reason="needs PyAV: pip install -r requirements-video.txt")
        import videos

        (data / "videos").mkdir()
        for stem in "abc":
            videos.numbered(data / "videos" / f"{stem}.mp4", 10)

    def call(k, event=None):
        """(exit code, error, what is left) of the command, killed before an event."""
        place, output = data / f"{name}-{k}", data / f"{name}-{k}.output"
        place.mkdir(exist_ok=True)
        argv = line.format(data, place).split()
        child = commands.start(argv, output, program=program, event=event)
        code, _, error = commands.ended(child, output)
        return code, error, content(place)

    code, error, expected = call("whole", NEVER)
    assert (code, error) == (0, "") and expected
    events = (data / f"{name}-whole.output.events").stat().st_size
    moments = np.linspace(0, events - 1, KILLS).astype(int).tolist()
    assert len(set(moments)) == KILLS

    def killed_and_called_again(k):
        assert call(k, moments[k])[0] == -signal.SIGKILL
        code, error, left = call(k)
        # it was killed after its last write
        done = code == 2 and ("found files there" in error or "found a file there" in error)
        return (code == 0 or done) and left == expected

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(killed_and_called_again, range(KILLS))) == [True] * KILLS
