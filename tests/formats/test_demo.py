import itertools
import json

import h5py
import numpy as np
import pytest

from formats import demo as demo_data
from formats.files import InputError


@pytest.fixture(scope="module")
def videos():
    return list(demo_data.generate(0))


@pytest.fixture
def few(monkeypatch):
    """The first five videos of the demo, for the tests that write it several times."""
    complete = demo_data.generate
    monkeypatch.setattr(demo_data, "generate", lambda seed: itertools.islice(complete(seed), 5))


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_same_seed_same_bytes_other_seed_other_data(tmp_path, few):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        demo_data.write_demo(tmp_path / folder, seed)
        assert listing(tmp_path / folder) == ["annotations.json", "features.h5"]
    read = lambda folder: [
        (tmp_path / folder / name).read_bytes() for name in listing(tmp_path / folder)
    ]
    assert read("a") == read("b")
    assert read("a")[0] != read("c")[0] and read("a")[1] != read("c")[1]


def test_files_are_canonical_and_hold_what_generate_yields(tmp_path, videos):
    said = demo_data.write_demo(tmp_path)
    database = json.loads((tmp_path / "annotations.json").read_text())["database"]
    subsets = [entry["subset"] for entry in database.values()]
    assert "wrote 60 training and 40 testing videos" in said
    assert (subsets.count("training"), subsets.count("testing")) == (60, 40)
    with h5py.File(tmp_path / "features.h5") as file:
        assert file.attrs["snippet_seconds"] == demo_data.SNIPPET_SECONDS
        assert sorted(file) == sorted(database) == sorted(name for name, *_ in videos)
        for name, subset, duration, actions, streams in videos:
            assert sorted(file[name]) == ["flow", "rgb"]
            for stream, x in streams.items():
                np.testing.assert_array_equal(file[name][stream][()], x)
            entry = database[name]
            assert (entry["subset"], entry["duration"]) == (subset, duration)
            assert [(*a["segment"], a["label"]) for a in entry["annotations"]] == actions


def test_written_once_and_again_only_when_something_changed(tmp_path, monkeypatch, few):
    stamps = lambda: [(tmp_path / name).stat().st_mtime_ns for name in listing(tmp_path)]
    assert "wrote" in demo_data.write_demo(tmp_path)
    first, before = (tmp_path / "features.h5").read_bytes(), stamps()
    assert "as written before" in demo_data.write_demo(tmp_path)
    assert stamps() == before
    assert "wrote" in demo_data.write_demo(tmp_path, seed=1)
    assert "wrote" in demo_data.write_demo(tmp_path, seed=0)

    (tmp_path / "features.h5").write_bytes(first[:5000])  # cut off
    assert "wrote" in demo_data.write_demo(tmp_path)
    (tmp_path / "annotations.json").unlink()
    assert "wrote" in demo_data.write_demo(tmp_path)
    (tmp_path / "annotations.json").write_text("[]")
    assert "wrote" in demo_data.write_demo(tmp_path)
    assert (tmp_path / "features.h5").read_bytes() == first

    changed = tmp_path / "changed.py"  # a changed generator
    changed.write_text("# other text")
    monkeypatch.setattr(demo_data, "__file__", str(changed))
    assert "wrote" in demo_data.write_demo(tmp_path)


def test_failure_leaves_the_old_files_and_nothing_else(tmp_path, monkeypatch, few):
    demo_data.write_demo(tmp_path)
    before = [(tmp_path / name).read_bytes() for name in listing(tmp_path)]
    complete = demo_data.generate

    def broken(seed):
        yield from (video for video, _ in zip(complete(seed), range(3)))
        raise RuntimeError("disk full")

    monkeypatch.setattr(demo_data, "generate", broken)
    with pytest.raises(InputError, match="features.h5: found .*disk full"):
        demo_data.write_demo(tmp_path, seed=1)
    assert listing(tmp_path) == ["annotations.json", "features.h5"]
    assert [(tmp_path / name).read_bytes() for name in listing(tmp_path)] == before


def test_geometry(videos):
    assert len(videos) == 100 and len({name for name, *_ in videos}) == 100
    lengths = set()
    for _, _, duration, actions, streams in videos:
        n_clips = len(streams["rgb"])
        lengths.add(n_clips)
        assert streams["rgb"].shape == (n_clips, 96) and streams["flow"].shape == (n_clips, 64)
        # the last, incomplete clip is left out
        assert n_clips * 0.64 <= duration < (n_clips + 1) * 0.64
        times = [t for start, end, _ in actions for t in (start, end)]
        assert actions and times == sorted(times) and 0 <= times[0] and times[-1] <= duration
        assert all(end - start > 1 for start, end, _ in actions)
        # rounded to 0.01 s each
        assert sum(end - start for start, end, _ in actions) <= 0.6 * duration + 0.1
        for x in streams.values():
            assert x.dtype == np.float16 and np.isfinite(x).all() and x.min() == 0
    assert len(lengths) > 50


def test_every_class_in_both_subsets_and_a_few_videos_with_two(videos):
    for subset, n in (("training", 60), ("testing", 40)):
        labels = [
            {label for _, _, label in actions} for _, of, _, actions, _ in videos if of == subset
        ]
        assert len(labels) == n
        assert set().union(*labels) == set(demo_data.CLASSES)
        assert {len(x) for x in labels} == {1, 2} and sum(len(x) == 2 for x in labels) < 0.3 * n


def test_noise_has_unit_variance_and_the_stated_memory():
    x = demo_data.noise(np.random.default_rng(0), 4000, 50)
    assert x.std() == pytest.approx(1, abs=0.02) and x[0].std() == pytest.approx(1, abs=0.3)
    assert (x[1:] * x[:-1]).mean() == pytest.approx(0.7, abs=0.02)


def clips(videos, subset, streams):
    """Features with a constant (N, D + 1) and whether each class covers most of the clip (N, 6)."""
    x, y = [], []
    for _, of, _, actions, features in videos:
        if of == subset:
            x.append(np.concatenate([features[s].astype(float) for s in streams], axis=1))
            middle = (np.arange(len(x[-1])) + 0.5) * demo_data.SNIPPET_SECONDS
            y.append(
                np.stack(
                    [
                        np.any(
                            [(s <= middle) & (middle < e) for s, e, k in actions if k == c]
                            or [np.zeros(len(middle), bool)],
                            axis=0,
                        )
                        for c in demo_data.CLASSES
                    ],
                    axis=1,
                )
            )
    x = np.concatenate(x)
    return np.column_stack([x, np.ones(len(x))]), np.concatenate(y)


def probe(videos, streams):
    """Average precision per class of a ridge regression on single clips, trained on the true
    segments.
    """
    (x, y), (x_test, y_test) = (
        clips(videos, subset, streams) for subset in ("training", "testing")
    )
    scores = x_test @ np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ y)
    hits = np.take_along_axis(y_test, np.argsort(-scores, axis=0, kind="stable"), axis=0)
    precision = hits.cumsum(axis=0) / np.arange(1, len(hits) + 1)[:, None]
    return (precision * hits).sum(axis=0) / hits.sum(axis=0), y_test.mean(axis=0)


def test_a_supervised_probe_is_far_above_chance_and_far_from_perfect(videos):
    both, chance = probe(videos, ("rgb", "flow"))
    assert (both > 4 * chance).all() and (both < 0.95).all()
    for stream in ("rgb", "flow"):  # each stream knows what the other misses
        assert probe(videos, (stream,))[0].mean() < both.mean() - 0.05
