import os
import signal
import subprocess
import sys
import tracemalloc

import convert_features
import feature_files
import h5py
import inspect_features
import numpy as np
import pytest
from feature_files import SECONDS
from places import python

import dataset
from formats import features

NAMES = list(feature_files.features())


def write(folder, writer=feature_files.canonical, streams=None, database=None, **options):
    """(features paths, annotation path) of the small set."""
    streams = streams or feature_files.features()
    (folder / "src").mkdir()
    content = feature_files.database(streams) if database is None else database
    return writer(folder / "src", streams, **options), feature_files.write_json(
        folder / "gt.json", content
    )


def flags(paths):
    given = {name: paths[name] for name in ("flow_features", "streams") if name in paths}
    return [w for name, value in given.items() for w in (f"--{name.replace('_', '-')}", str(value))]


def convert(paths, truth, out, *options):
    convert_features.main([*map(str, (paths["features"], truth, out)), *flags(paths), *options])


def inspect(paths, *truth):
    inspect_features.main([str(path) for path in (paths["features"], *truth)])


def fails(tool, *arguments):
    with pytest.raises(SystemExit) as caught:
        tool.main([str(argument) for argument in arguments])
    assert caught.value.code == 2


def report(capsys):
    """The lines of the inspection, key -> texts."""
    lines, key = {}, ""
    for line in capsys.readouterr().out.splitlines():
        key = line[:16].strip() or key
        lines.setdefault(key, []).append(line[16:])
    return lines


# ------------------------------------------------------------------------------------------------
# convert


@pytest.mark.parametrize("writer", feature_files.LAYOUTS, ids=lambda writer: writer.__name__)
def test_every_layout_converts_to_the_same_file(tmp_path, capsys, writer, caplog):
    paths, truth = write(tmp_path, writer)
    out = tmp_path / "out.h5"
    convert(paths, truth, out, *"--snippet-seconds 0.5 --dtype float32".split())
    assert f"{out}: 6 videos, 67 clips of 0.5 s, float32" in capsys.readouterr().out
    caplog.clear()
    data = dataset.load(out, truth, train_subset="train", test_subset="test")
    assert data.layout == "canonical" and data.snippet_seconds == SECONDS and caplog.messages == []
    streams = feature_files.features()
    for video in (*data.train, *data.test):
        np.testing.assert_array_equal(video.rgb, streams[video.name][0])
        np.testing.assert_array_equal(video.flow, streams[video.name][1])


def test_float16_is_the_default_and_gzip_an_option(tmp_path):
    paths, truth = write(tmp_path)
    for options, compression in ((), None), (("--compress",), "gzip"):
        convert(paths, truth, tmp_path / f"{compression}.h5", *options)
        with h5py.File(tmp_path / f"{compression}.h5") as file:
            assert file.attrs["snippet_seconds"] == SECONDS and sorted(file) == sorted(NAMES)
            rgb = file[NAMES[0]]["rgb"]
            assert rgb.dtype == np.float16 and rgb.compression == compression
            np.testing.assert_array_equal(
                rgb, feature_files.features()[NAMES[0]][0].astype(np.float16)
            )


def test_seconds_have_to_come_from_somewhere(tmp_path, capsys):
    paths, truth = write(tmp_path, feature_files.stream_files)
    fails(convert_features, paths["features"], truth, tmp_path / "out.h5")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "--snippet-seconds 0.5" in line and "imply 0.5 s" in line
    assert not (tmp_path / "out.h5").exists()


def test_what_is_odd_is_said(tmp_path, capsys, caplog):
    streams = feature_files.features()
    database = feature_files.database(streams)
    streams[NAMES[0]] = tuple(array.astype(np.float64) for array in streams[NAMES[0]])
    streams[NAMES[4]] = streams[NAMES[4]][0], streams[NAMES[4]][1][:-2]
    database["more"] = database[NAMES[1]]
    paths, truth = write(tmp_path, streams=streams, database=database)
    convert(paths, truth, tmp_path / "out.h5", "--snippet-seconds", "0.4")
    notes = capsys.readouterr().out + caplog.text
    for text in (
        f"float64 converted to float32 in 1 video, such as {NAMES[0]}",
        f"unequal length cut to the shorter in 1 video, such as {NAMES[4]}",
        "GEOMETRY: clips of 0.4 s",
        "declares 0.5 s per clip; the given 0.4 s",
        "no features for 1 of 7 annotated videos, such as more",
    ):
        assert text in notes


def test_a_set_without_a_usable_video_makes_no_file(tmp_path, capsys):
    bad = {name: np.zeros((0, 4)) for name in NAMES}
    paths, truth = write(tmp_path)
    with h5py.File(paths["features"], "w") as file:
        file.attrs["snippet_seconds"] = 0.5
        for name, array in bad.items():
            file[f"{name}/rgb"] = file[f"{name}/flow"] = array
    fails(convert_features, paths["features"], truth, tmp_path / "out.h5", "--allow-missing")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {paths['features']}: {min(NAMES)}: rgb: found 0 clips")
    assert not (tmp_path / "out.h5").exists()


def test_an_interrupted_conversion_leaves_no_file(tmp_path, monkeypatch, capsys):
    paths, truth = write(tmp_path, feature_files.joint_npy)
    out = tmp_path / "out"
    out.mkdir()
    read = features.FeatureSource.read

    def interrupted(source, name):
        if name == NAMES[3]:
            # the conversion is under way, beside its final name, and locked
            assert len(list(out.iterdir())) == 2
            os.kill(os.getpid(), signal.SIGINT)
        return read(source, name)

    monkeypatch.setattr(features.FeatureSource, "read", interrupted)
    with pytest.raises(SystemExit) as caught:
        convert(paths, truth, out / "a.h5", "--snippet-seconds", "0.5")
    assert caught.value.code == 130 and "nothing was written" in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_bad_targets(tmp_path, capsys):
    paths, truth = write(tmp_path)
    before = paths["features"].read_bytes(), truth.read_bytes()
    fails(convert_features, paths["features"], truth, paths["features"])
    assert "features.h5: found a file there, expected another name" in capsys.readouterr().err
    fails(convert_features, paths["features"], truth, truth)
    assert "gt.json: found the ending '.json', expected a file to write" in capsys.readouterr().err
    fails(convert_features, paths["features"], truth, tmp_path / "nowhere" / "out.h5")
    assert "out.h5: found No such file or directory" in capsys.readouterr().err
    assert (paths["features"].read_bytes(), truth.read_bytes()) == before


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 3000, 20_000, 100_000])
def test_no_room(tmp_path, limit):
    """A limit on the size of files acts as a full disk does."""
    resource = pytest.importorskip("resource")
    paths, truth = write(tmp_path, streams=feature_files.features([40] * 100))
    (tmp_path / "out").mkdir()
    arguments = paths["features"], truth, tmp_path / "out" / "a.h5"
    small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    done = python(convert_features.__file__, *arguments, preexec_fn=small)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    assert line.lower().endswith("a.h5: found file too large, expected to write the file")
    assert list((tmp_path / "out").iterdir()) == []


def test_values_beyond_float16(tmp_path, capsys):
    streams = feature_files.features()
    streams[NAMES[2]][1][3, 1] = 70_000
    paths, truth = write(tmp_path, streams=streams)
    fails(convert_features, paths["features"], truth, tmp_path / "out.h5")
    assert (
        f"{NAMES[2]}: flow: found values up to 7e+04, expected finite ones of float16"
        in capsys.readouterr().err
    )
    convert(paths, truth, tmp_path / "out.h5", "--dtype", "float32")


def test_conversion_and_inspection_hold_one_video_at_a_time(tmp_path):
    streams = {
        f"v{i}": tuple(np.full((200, 512), i, np.float32) for _ in range(2)) for i in range(40)
    }  # 33 MB
    paths, truth = write(tmp_path, feature_files.joint_npy, streams=streams)
    del streams
    for tool, *more in ((convert, tmp_path / "out.h5", "--snippet-seconds", "0.5"), (inspect,)):
        tracemalloc.start()
        tool(paths, truth, *more)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8e6  # 0.8 MB per video, a few forms of it


# ------------------------------------------------------------------------------------------------
# inspect


def test_inspection_of_a_sound_set(tmp_path, capsys):
    streams = feature_files.features()
    for rgb, _ in streams.values():
        rgb[:, :2] = 0
        rgb[:, 2:] = [-2.5, 4]
    paths, truth = write(tmp_path, streams=streams)
    inspect(paths, truth)
    lines = report(capsys)
    assert lines["layout"] == ["canonical"]
    assert lines["videos"] == ["6 with features: train 3 of 3, test 3 of 3"]
    assert lines["missing"] == lines["surplus"] == ["none"]
    assert lines["dimensions"] == ["rgb 4, flow 4"] and lines["type"] == ["float32"]
    assert lines["clips"] == [
        "1 to 30 per video, median 8.5, 67 in all; streams cut to equal length in 0 videos"
    ]
    assert lines["rgb values"] == ["-2.5 to 4, 50.0% zeros"]
    assert lines["flow values"][0].endswith(" 0.0% zeros")
    seconds = lines["snippet_seconds"]
    assert seconds[0].startswith("0.5 s as declared or given; 0.5 implied by the durations")
    assert [line.split()[0] for line in seconds[1:]] == [
        "1.25",
        "0.64",
        "0.6",
        "0.5333",
        "0.4",
        "0.1333",
    ]
    # of long windows: 16 / 15 (T + 1) / T and 4 / 15 (T + 3) / T, of the videos of 8 and 9 clips
    shares = [line.split()[2] for line in seconds[1:]]
    assert shares == ["250%", "128%", "120%", "119%", "80%", "36%"]
    assert all(": no " in line for line in seconds[1:])
    row = f"features={str(paths['features'])!r}, annotations={str(truth)!r}"
    assert lines["in opts.py"] == [f'"custom": dict(CUSTOM, {row}),']
    assert lines["verdict"] == ["ready"] and "problem" not in lines and "note" not in lines


@pytest.mark.parametrize(
    "clip, declared, setting, fits",
    [
        (1.255, None, "1.25", ["1.25"]),
        (0.62, None, "0.64", ["0.64", "0.6"]),
        (0.7, None, "0.7", []),
        (0.64, 0.6, "0.64", ["0.64"]),
        (0.64, 0.65, None, ["0.64"]),
    ],
)
def test_inspection_says_what_to_set(tmp_path, capsys, clip, declared, setting, fits):
    streams = feature_files.features((40, 50, 60))
    database = feature_files.database(streams)
    for (rgb, _), entry in zip(streams.values(), database.values()):
        entry["duration"] = len(rgb) * clip
    paths, truth = write(tmp_path, streams=streams, database=database, snippet_seconds=declared)
    inspect(paths, truth)
    lines = report(capsys)
    assert [line.split()[0] for line in lines["snippet_seconds"][1:] if ": fits" in line] == fits
    assert sum("fits best" in line for line in lines["snippet_seconds"]) == bool(fits)
    assert lines["in opts.py"][0].endswith(
        f", snippet_seconds={setting})," if setting else f"annotations={str(truth)!r}),"
    )
    assert ("set" in lines["verdict"][0]) == (declared is None)
    assert ("wrong" in lines["verdict"][0]) == (declared == 0.6)


def test_inspection_of_long_windows(tmp_path, capsys):
    streams = feature_files.features((300, 400, 500))
    database = feature_files.database(streams)
    for (rgb, _), entry in zip(streams.values(), database.values()):
        entry["duration"] = (len(rgb) - 1) * 4 / 30 + 16 / 30
        entry["annotations"][0]["segment"] = [0, entry["duration"]]
    paths, truth = write(tmp_path, streams=streams, database=database, snippet_seconds=None)
    inspect(paths, truth)
    lines = report(capsys)
    assert lines["in opts.py"][0].endswith(", snippet_seconds=0.133333, clip_seconds=0.533333),")
    assert [line.split()[0] for line in lines["snippet_seconds"] if "fits best" in line] == [
        "0.1333"
    ]
    given = "--snippet-seconds", "0.133333", "--clip-seconds", "0.533333"
    inspect_features.main([str(paths["features"]), str(truth), *given])
    lines = report(capsys)
    (said, *_) = lines["snippet_seconds"]
    assert said.startswith("0.533333 s every 0.133333 s as declared or given; 0.1333 implied")
    assert lines["verdict"] == ["ready"] and "note" not in lines


def test_inspection_and_conversion_of_videos_with_a_step_each(tmp_path, capsys):
    streams = feature_files.features((10, 10, 10, 10))
    database = feature_files.database(streams)
    steps = dict(zip(streams, (0.5, 1.0, 0.25, 2.0)))
    for name, entry in database.items():
        entry["duration"] = 10 * steps[name]
        entry["annotations"][0]["segment"] = [0, entry["duration"] / 2]
    paths, truth = write(tmp_path, streams=streams, database=database, snippet_seconds=None)
    inspect(paths, truth)
    lines = report(capsys)
    assert lines["in opts.py"][0].endswith(", snippet_seconds='duration'),")
    assert lines["verdict"] == ["usable once snippet_seconds is set"]
    convert(paths, truth, tmp_path / "out.h5", "--snippet-seconds", "duration")
    assert "40 clips of 0.25 to 2 s" in capsys.readouterr().out
    with h5py.File(tmp_path / "out.h5") as file:
        assert {name: dict(file[name].attrs) for name in file} == {
            name: {"snippet_seconds": step, "clip_seconds": step} for name, step in steps.items()
        }
        assert "snippet_seconds" not in file.attrs
    inspect({"features": tmp_path / "out.h5"}, truth)
    lines = report(capsys)
    assert lines["snippet_seconds"][0].startswith("0.25 to 2 s as declared or given; 0.75 implied")
    assert lines["verdict"] == ["ready"] and "note" not in lines
    inspect({"features": tmp_path / "out.h5"})
    lines = report(capsys)
    assert lines["snippet_seconds"][0].startswith("0.25 to 2 s as declared or given; no annotated")
    assert lines["verdict"] == ["ready"]


def test_conversion_keeps_the_window(tmp_path, capsys):
    paths, truth = write(tmp_path)
    convert(paths, truth, tmp_path / "out.h5", "--clip-seconds", "2")
    assert "67 clips of 2 s every 0.5 s" in capsys.readouterr().out
    with h5py.File(tmp_path / "out.h5") as file:
        assert dict(file.attrs) == {"snippet_seconds": 0.5, "clip_seconds": 2.0}


def test_duration_over_clips_leaves_out_videos_without_annotation(tmp_path, capsys):
    streams = feature_files.features()
    database = feature_files.database(streams)
    del database[NAMES[1]]
    paths, truth = write(tmp_path, streams=streams, database=database)
    convert(paths, truth, tmp_path / "out.h5", "--snippet-seconds", "duration")
    assert f"left out: {paths['features']}: {NAMES[1]}: found no annotated d" in (
        capsys.readouterr().out
    )
    with h5py.File(tmp_path / "out.h5") as file:
        assert sorted(file) == sorted({*NAMES} - {NAMES[1]})


def test_inspection_finds_missing_and_surplus_videos(tmp_path, capsys):
    streams = feature_files.features()
    database = feature_files.database(streams)
    database["more"] = database.pop(NAMES[1])
    paths, truth = write(tmp_path, streams=streams, database=database)
    inspect(paths, truth)
    lines = report(capsys)
    assert lines["videos"] == ["6 with features: train 3 of 3, test 2 of 3"]
    assert lines["missing"] == ["more"] and lines["surplus"] == [NAMES[1]]
    assert lines["verdict"] == ["usable with --allow-missing: 1 video without features; else ready"]


def test_inspection_without_annotations(tmp_path, capsys):
    paths, _ = write(tmp_path, feature_files.released_pt)
    inspect(paths)
    lines = report(capsys)
    assert lines["videos"] == ["6, no annotations given"]
    assert lines["layout"] == ["released-pt"]
    assert lines["snippet_seconds"] == ["not declared; no annotated durations to compare it with"]
    assert lines["verdict"] == ["usable once snippet_seconds is set"]


def test_inspection_lists_all_problems(tmp_path, capsys):
    streams = feature_files.features()
    streams[NAMES[0]][0][1, 1] = np.nan
    streams[NAMES[2]] = tuple(array[:, :3] for array in streams[NAMES[2]])
    streams[NAMES[3]] = streams[NAMES[3]][0], streams[NAMES[3]][1][:2]
    paths, truth = write(tmp_path, streams=streams)
    fails(inspect_features, paths["features"], truth)
    out, err = capsys.readouterr()
    for text in (
        f"{NAMES[0]}: found nan in rgb",
        f"{NAMES[2]}: found 3 rgb and 3 flow dimensions, expected 4 rgb and 4 flow as in 4 others",
        f"{NAMES[3]}: found 9 clips of rgb and 2 of flow",
        "not usable, 3 problems",
    ):
        assert text in out
    (line,) = err.splitlines()
    assert line.startswith("error: ") and line.endswith("(and 2 more)")


def test_inspection_of_features_of_other_videos(tmp_path, capsys):
    streams = feature_files.features()
    database = {f"x{name}": entry for name, entry in feature_files.database(streams).items()}
    paths, truth = write(tmp_path, streams=streams, database=database)
    fails(inspect_features, paths["features"], truth)
    assert f"found no features for 6 of 6 videos of {truth}: x{NAMES[0]}" in capsys.readouterr().err


def test_inspection_for_a_reader_that_has_gone(tmp_path):
    paths, truth = write(tmp_path)
    argv = [sys.executable, inspect_features.__file__, paths["features"], truth]
    unbuffered = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(argv, stdout=-1, stderr=-1, text=True, env=unbuffered) as gone:
        gone.stdout.close()
        assert gone.stderr.read() == "" and gone.wait() == 0


def test_progress_bar_where_somebody_watches(tmp_path, monkeypatch, capsys):
    paths, truth = write(tmp_path)
    convert(paths, truth, tmp_path / "quiet.h5")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    convert(paths, truth, tmp_path / "watched.h5")
    assert "converting: 100%" in capsys.readouterr().err
