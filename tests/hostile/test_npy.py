import contextlib
import io
import json
import os
import pathlib
import pickle
import stat
import struct
import sys
import tracemalloc
import zipfile
from collections import Counter

import numpy as np
import pytest
from errors import Evil, cases, line_of
from feature_files import objects
from places import ROOT, python

from formats import files
from formats.files import InputError, load_json, load_pt, write_atomically
from formats.npy import FileArray, index_npy, index_npz, index_pickle, load_npy

FEATURES = [
    np.arange(6, dtype=np.float32).reshape(3, 2),
    np.zeros((0, 2), np.float16),
    np.arange(8, dtype=">f8").reshape(2, 4),
    np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
]


def load_npz(path):
    """All arrays of a .npz file, read as a set's are."""
    return {name: array.read() for name, array in index_npz(path).items()}


def write_pickle(path, data, shape=(2,), version=1, descr="|O"):
    """A .npy file around pickle bytes (or any other payload), with the header written by hand."""
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode("utf-8") + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    path.write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + text + data)
    return path


def same(a, b):
    assert a.dtype == b.dtype and a.shape == b.shape
    np.testing.assert_array_equal(a, b)


# ---- plain arrays


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.arange(4, dtype=">i2"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(3.5),
        np.zeros((0, 5)),
        np.array([b"ab", b"c"]),
        np.array(["\u00e9", "abc"]),
        np.array([True, False]),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_plain_arrays_of_every_format_version(tmp_path, array, version):
    with open(tmp_path / "a.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=version)
    same(load_npy(tmp_path / "a.npy"), array)
    indexed = index_npy(tmp_path / "a.npy")
    assert (indexed.shape, indexed.dtype) == (array.shape, array.dtype)
    same(indexed.read(), array)


def test_python_2_header_with_long_integers(tmp_path):
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 1L), }\n"
    (tmp_path / "a.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + b"\0\0\x80?\0\0\0@"
    )
    same(load_npy(tmp_path / "a.npy"), np.array([[1], [2]], np.float32))


LIES = [
    ("more rows than the file holds", (10**15, 2), "<f4", b"\0" * 16),
    ("fewer bytes by one", (2, 2), "<f4", b"\0" * 15),
    ("more bytes than claimed", (2, 2), "<f4", b"\0" * 17),
    ("negative", (-1, 2), "<f4", b""),
    ("negative twice", (-1, -2), "<f4", b"\0" * 8),
    ("more elements than an index counts", (2**40, 2**40), "<f4", b""),
    ("such a product hidden behind a zero", (0, 2**40, 2**40), "<f4", b""),
    ("no tuple", 3, "<f4", b"\0" * 12),
    ("a fraction", (2.0,), "<f4", b"\0" * 8),
    ("a boolean", (True,), "<f4", b"\0" * 4),
    ("too many dimensions", (1,) * 40, "<f4", b"\0" * 4),
    ("elements of no size", (10**12,), "|S0", b""),
    ("elements of absurd size", (1,), "|S999999999", b"abc"),
    ("a structured dtype", (1,), [("a", "<f4")], b"\0" * 4),
    ("no dtype", (1,), "<f5", b"\0" * 5),
    ("raw memory", (1,), "|V4", b"\0" * 4),
    ("dates", (1,), "<M8[s]", b"\0" * 8),
    ("more objects than the file could hold", (10**12,), "|O", b"\x80\x04]."),
    ("no characters", (1,), "<U1", b"\xff\xff\xff\x7f"),
]


@cases("shape, descr, data", LIES)
def test_a_header_that_lies_is_refused_before_any_allocation(tmp_path, shape, descr, data):
    path = write_pickle(tmp_path / "a.npy", data, shape, descr=descr)
    tracemalloc.start()
    try:
        assert line_of(load_npy, path).startswith(f"{path}: found ")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


BROKEN = [
    ("empty", b""),
    ("not NumPy's", b"PK\x03\x04 and more"),
    ("cut in the magic", b"\x93NUM"),
    ("version", b"\x93NUMPY\x04\x00\x02\x00{}"),
    ("cut in the length", b"\x93NUMPY\x01\x00\x05"),
    ("header longer than the file", b"\x93NUMPY\x01\x00\xff\x00{}"),
    ("header of 4 GiB", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"),
    ("no dict", b"\x93NUMPY\x01\x00\x02\x00[]"),
    ("missing keys", b"\x93NUMPY\x01\x00\x02\x00{}"),
    ("no Python", b"\x93NUMPY\x01\x00\x04\x00{'a:"),
    ("code in the header", b"\x93NUMPY\x01\x00\x12\x00__import__('os')  "),
    ("nested header", b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 5000 + b")" * 5000),
]


@cases("data", BROKEN)
def test_a_file_that_is_no_npy_is_refused(tmp_path, data):
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        for load in (load_npy, index_npy):
            assert line_of(load, path).startswith(f"{path}: found ")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


# ---- pickled objects


@pytest.mark.parametrize("protocol", range(6))
def test_object_arrays_of_every_pickle_protocol(tmp_path, protocol):
    lists = [["Diving", "LongJump"], [], [[0.5, 1], [2, 3.25]], (1, ("a",)), {"key": [1]}]
    atoms = ["\u00e9\u4e2d", b"\xff\x00bytes", "long " * 100, b"z" * 300, 1, 2**70, -1.5, True]
    numbers = [np.float32(2.5), np.int64(-3), np.bool_(True)]
    texts = [np.str_("text"), np.str_(""), np.bytes_(b"b")]
    values = [
        None,
        *lists,
        *atoms,
        *numbers,
        *texts,
        np.array(["ab", "\u00e9"]),
        np.array([b"ab", b"c"]),
    ]
    for version in (1, 2, 3):
        array = objects(*values)
        read = load_npy(
            write_pickle(tmp_path / "a.npy", pickle.dumps(array, protocol), (len(values),), version)
        )
        assert read.dtype == object and read.shape == array.shape
        for got, expected in zip(read, array):
            assert type(got) is type(expected)
            if isinstance(expected, np.ndarray):
                same(got, expected)
            else:
                assert got == expected


def test_an_object_array_inside_another_is_read_as_a_list(tmp_path):
    inner = objects("a", None), np.array([[0.5, 1], [2, "b"]], object), np.empty((3, 0), object)
    np.save(tmp_path / "a.npy", objects(*inner), allow_pickle=True)
    assert load_npy(tmp_path / "a.npy").tolist() == [["a", None], [[0.5, 1], [2, "b"]], []]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("scale", [1, 2000])
def test_arrays_in_arrays_load_and_index_in_every_protocol(tmp_path, protocol, scale):
    # scale 2000: left on disk
    features = [np.repeat(a, scale, axis=1) if scale > 1 else a for a in FEATURES]
    features[3] = np.asfortranarray(features[3])
    path = write_pickle(
        tmp_path / "a.npy", pickle.dumps(objects(*features), protocol), (len(features),)
    )
    items = index_npy(path)
    for loaded, item, expected in zip(load_npy(path), items, features, strict=True):
        same(loaded, expected)
        assert item.shape == expected.shape and item.dtype == expected.dtype
        on_disk = scale > 1 and expected.size and protocol > 2
        assert isinstance(item, FileArray) == bool(on_disk)
        if on_disk:
            item.read()[:] = 1  # each read is the caller's own
            same(item.read(), expected)


@pytest.mark.parametrize("protocol", [1, 4, 5])
def test_shared_and_self_referring_objects(tmp_path, protocol):
    shared, array, own = ["a"], np.arange(3.0), []
    own.append(own)
    content = objects(shared, shared, own, array, [array], [np.float32(1), np.float32(2)])
    read = load_npy(write_pickle(tmp_path / "a.npy", pickle.dumps(content, protocol), (6,)))
    assert read[0] is read[1] and read[0] == ["a"] and read[2][0] is read[2]
    same(read[3], array)
    assert read[4][0] is read[3] and read[5] == [1, 2]  # both share a dtype


def test_zero_dimensional_and_two_dimensional_object_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.array({"x": 1}, dtype=object), allow_pickle=True)
    assert load_npy(tmp_path / "a.npy").item() == {"x": 1}
    array = np.array([["a", None, 2], [1.5, "b", [3]]], dtype=object)
    for order in (array, np.asfortranarray(array)):
        np.save(tmp_path / "a.npy", order, allow_pickle=True)
        same(load_npy(tmp_path / "a.npy"), array)


def python_2(array):
    """An array pickled as Python 2 did it in protocol 2: bytes and text are one type, str."""

    class Pickler(pickle._Pickler):
        def save_text(self, value):
            data = value if isinstance(value, bytes) else value.encode("latin1")
            head = b"U%c" % len(data) if len(data) < 256 else b"T" + struct.pack("<i", len(data))
            self.write(head + data)

        dispatch = {**pickle._Pickler.dispatch, bytes: save_text, str: save_text}

    file = io.BytesIO()
    Pickler(file, 2).dump(array)
    return file.getvalue()


@pytest.mark.parametrize("clips", [2, 3000])
def test_a_pickle_of_python_2_with_latin_1_strings(tmp_path, clips):
    values = np.linspace(-1, 1, clips * 2, dtype=np.float32).reshape(clips, 2)
    path = write_pickle(tmp_path / "a.npy", python_2(objects(values, ["Caf\u00e9"])))
    for first, second in (load_npy(path), index_npy(path)):
        same(first.read() if isinstance(first, FileArray) else first, values)
        assert second == ["Caf\u00e9"]


def test_what_old_and_new_numpy_call_their_functions(tmp_path):
    data = pickle.dumps(objects(np.arange(3), np.float64(2)), 5)
    for old, new in ((b"numpy._core.", b"numpy.core."), (b"numpy.core.", b"numpy._core.")):
        changed = data
        for name in (b"multiarray", b"numeric"):  # a length byte goes before each name
            changed = changed.replace(
                bytes([len(old + name)]) + old + name, bytes([len(new + name)]) + new + name
            )
        array, scalar = load_npy(write_pickle(tmp_path / "a.npy", changed))
        same(array, np.arange(3))
        assert scalar == 2 and type(scalar) is np.float64


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_execute_code_is_refused_and_does_not(tmp_path, protocol):
    canary, path = tmp_path / "canary", tmp_path / "evil.npy"
    for call, name in (
        ((os.mkdir, str(canary)), f"{os.mkdir.__module__}.mkdir"),
        ((os.system, f"touch {canary}"), f"{os.system.__module__}.system"),
        ((eval, f"open({str(canary)!r}, 'w')"), "eval"),
    ):
        write_pickle(path, pickle.dumps(objects(1, Evil(*call)), protocol))
        for load in (load_npy, index_npy):
            line = line_of(load, path)
            assert line.startswith(f"{path}: found a pickle that asks for ") and name in line
        assert not canary.exists()
    with contextlib.suppress(Exception):  # the proof that such a file does execute where it may
        np.load(
            write_pickle(path, pickle.dumps(objects(1, Evil(os.mkdir, str(canary))), protocol)),
            allow_pickle=True,
        )
    assert canary.is_dir()


HOSTILE = [
    ("instance opcode", b"(S'touch canary'\nios\nsystem\n.", "os.system"),
    ("old-style object", b"(cos\nsystem\nS'touch canary'\no.", "os.system"),
    ("new-style object", b"\x80\x02cos\nsystem\nU\x02ls\x85\x81.", "os.system"),
    ("stack global", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.", "os.system"),
    ("dotted name", b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.", "numpy.ndarray.dump"),
    ("a shell in NumPy", b"cnumpy.testing._private.utils\nrunstring\n.", "runstring"),
    ("numpy.load", b"cnumpy\nload\n.", "numpy.load"),
    ("attributes of a function", b"ccopyreg\n_reconstructor\n.", "copyreg._reconstructor"),
    ("a subclass of ndarray", b"cnumpy\nmatrix\n.", "numpy.matrix"),
]


@cases("data, asked", HOSTILE)
def test_hand_made_hostile_pickles_are_refused_with_what_they_ask_for(
    tmp_path, monkeypatch, data, asked
):
    monkeypatch.chdir(tmp_path)
    path = write_pickle(tmp_path / "a.npy", data)
    for load in (load_npy, index_npy):
        line = line_of(load, path)
        assert "found a pickle that asks for" in line and asked in line
    assert sorted(os.listdir(tmp_path)) == ["a.npy"]


RAW = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tS'b'\ntR"
F4 = b"cnumpy\ndtype\n(S'f4'\nI00\nI01\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
O8 = b"cnumpy\ndtype\n(S'O8'\nI00\nI01\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb"
ONE = b"(K\x01(I1\nt"  # the begin of the state of an array (1,)
NUMBER = RAW + ONE + F4 + b"I00\nS'abcd'\ntb"
OBJECT = RAW + ONE + O8 + b"I00\n("  # closed by ltb
DAMAGED = [
    ("unknown opcode", b"\xfe"),
    ("empty stack", b"0"),
    ("bytes of 4 GiB", b"\x80\x03B\xff\xff\xff\xffabc"),
    ("bytes of 2**60", b"\x80\x04\x8e\0\0\0\0\0\0\0\x10abc"),
    ("bytearray of 2**60", b"\x80\x05\x96\0\0\0\0\0\0\0\x10abc"),
    ("text of 4 GiB", b"X\xff\xff\xff\xffabc"),
    ("text of 2**60", b"\x80\x04\x8d\0\0\0\0\0\0\0\x10abc"),
    ("str of negative length", b"T\xff\xff\xff\xffabc"),
    ("integer of 2 GiB", b"\x80\x02\x8b\xff\xff\xff\x7f1"),
    ("frame past the end", b"\x80\x04\x95\xff"),
    ("protocol 9", b"\x80\x09]"),
    ("memo never put", b"h\x07"),
    ("persistent id", b"Pfile\n"),
    ("extension", b"\x80\x02\x82\x01"),
    ("short text", b"U\xffabc"),
    ("no utf-8", b"X\x02\0\0\0\xff\xfe"),
    ("calling a string", b"S'x'\n)R"),
    ("calling ndarray for memory", b"cnumpy\nndarray\n(J\x00\x00\x00\x40\x85tR"),
    ("the state of a function", b"c_codecs\nencode\n(N}S'__defaults__'\n(NNtstb"),
    ("the state of an array", NUMBER + b"}b"),
    ("an entry of an array", NUMBER + b"K\x00]s"),
    ("array of more than its bytes", RAW + b"(K\x01(I4\nt" + F4 + b"I00\nS'abcd'\ntb"),
    ("array of fewer than its bytes", RAW + ONE + F4 + b"I00\nS'abcdefgh'\ntb"),
    ("array of negative size", RAW + b"(K\x01(I-1\nt" + F4 + b"I00\nS''\ntb"),
    ("array with a shape of text", RAW + b"(K\x01(S'a'\nt" + F4 + b"I00\nS'abcd'\ntb"),
    ("object array without list", RAW + b"(K\x01(I2\nt" + O8 + b"I00\nS'ab'\ntb"),
    ("object array of a short list", RAW + b"(K\x01(I1000000000000\nt" + O8 + b"I00\n(I1\nltb"),
    ("many lists of no objects", RAW + b"(K\x01(I1000000000\nI0\nt" + O8 + b"I00\n(ltb"),
    ("dtype of raw memory", b"cnumpy\ndtype\n(S'V8'\nI00\nI01\ntR"),
    ("dtype by class", b"cnumpy\ndtype\n(cnumpy\nndarray\nI00\nI01\ntR"),
    ("scalar of too few bytes", b"cnumpy.core.multiarray\nscalar\n(" + F4 + b"S'ab'\ntR"),
    ("object scalar", b"cnumpy.core.multiarray\nscalar\n(" + O8 + b"S'abcdefgh'\ntR"),
    ("order Q", b"cnumpy.core.numeric\n_frombuffer\n(S'abcd'\n" + F4 + b"(I1\ntS'Q'\ntR"),
    ("state set twice", NUMBER + ONE + F4 + b"I00\nS'abcd'\ntb"),
    ("bytes with an argument", b"c__builtin__\nbytes\n(I1000000000000\ntR"),
]
WRONG = [
    ("nothing", b""),
    ("no stop", OBJECT + b"K\x07ltb"),
    ("a list", b"(K\x07l."),
    ("None", b"N."),
    ("a plain array", NUMBER + b"."),
    ("another shape than the header's", RAW + b"(K\x01(I2\nt" + O8 + b"I00\n(NNltb."),
    ("something after the end", OBJECT + b"K\x07ltb.x"),
]


@cases("data", [(name, OBJECT + piece + b"ltb.") for name, piece in DAMAGED] + WRONG)
def test_damaged_pickles_are_one_line_and_cost_no_memory(tmp_path, data):
    path = write_pickle(tmp_path / "a.npy", data, (1,))
    tracemalloc.start()
    try:
        for load in (load_npy, index_npy):
            assert line_of(load, path).startswith(f"{path}: found ")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_the_hand_made_pieces_of_the_damaged_pickles_are_sound_in_themselves(tmp_path):
    (array,) = load_npy(write_pickle(tmp_path / "a.npy", OBJECT + NUMBER + b"ltb.", (1,)))
    same(array, np.frombuffer(b"abcd", "<f4"))


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_cut_anywhere_is_one_line(tmp_path, protocol):
    data = pickle.dumps(objects(["ab"], np.arange(2.0), np.float32(1)), protocol)
    for end in range(len(data)):
        path = write_pickle(tmp_path / "a.npy", data[:end], (3,) if end > 2 else (0,))
        line_of(load_npy, path)
        line_of(index_npy, path)


# ---- what could crash Python, or keep it busy for ever: in a process of its own


def outcome(load, path):
    """ "value" or "refused"; everything in the value is read."""
    try:
        value = load(path)
        if load is load_npy:
            value.tolist()
        items = value.values() if isinstance(value, dict) else value
        for item in items if isinstance(items, list) else [items]:
            item.read() if isinstance(item, FileArray) else None
    except InputError:
        return "refused"
    return "value"


def read_traps(folder):
    """Prints what the readers make of each file in the folder."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
    for path in sorted(folder.iterdir()):
        loads = (index_pickle,) if path.suffix == ".pkl" else (load_npy, index_npy)
        print(path.name, *(outcome(load, path) for load in loads), flush=True)


def read_damaged(path, rounds):
    """Prints the outcomes for object arrays with 1 to 3 damaged bytes."""
    rng, originals, outcomes = np.random.default_rng(0), [], Counter()
    arrays = (
        objects(["ab"], np.arange(3.0), {"k": np.str_("x")}),
        objects(np.ones((3, 2), ">f4"), np.asfortranarray(np.ones((2, 3))), np.zeros((0, 2))),
        objects([0.5, [1, b"x"]], (np.array(["ab", "\u00e9"]), None), objects(True, 2**70)),
    )
    for protocol in range(6):
        for array in arrays:
            data = pickle.dumps(array, protocol)
            originals.append(write_pickle(path, data, (3,)).read_bytes())
    np.save(path, np.arange(4.0).reshape(2, 2))
    originals.append(path.read_bytes())
    for turn in range(rounds):
        data = bytearray(originals[turn % len(originals)])
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(0, 256)
        path.write_bytes(data)
        outcomes.update(outcome(load, path) for load in (load_npy, index_npy))
    print(outcomes["value"], outcomes["refused"])


def in_child(function, *args, seconds=300):
    """The words that a function of this file prints in a process that must end well, and in time."""
    call = f"from pathlib import PosixPath; import test_npy; test_npy.{function.__name__}{args}"
    paths = os.pathsep.join(str(ROOT / place) for place in (".", "tests/helpers", "tests/hostile"))
    done = python("-c", call, environment={"PYTHONPATH": paths}, timeout=seconds)
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr[-2000:])
    return done.stdout.split()


DEEP = b")" + b"2\x86" * 40  # a tuple of tuples whose hash takes 2**40 steps
PRIME = 2**61 - 1  # its multiples have one hash
ENTRIES = b"".join(b"U\x04%04dK\x01" % i for i in range(5000))
TRAPS = {
    "key_of_an_entry": b"}" + DEEP + b"Ns",
    "keys_of_entries": b"}(" + DEEP + b"Nu",
    "key_of_a_dict": b"(" + DEEP + b"Nd",
    "in_a_frozen_set": b"(" + DEEP + b"\x91",
    "in_a_set": b"\x8f(" + DEEP + b"\x90",
    "keys_of_one_hash": b"}" + b"".join(b"L%dL\nNs" % (i * PRIME) for i in range(60000)),
    "memo_of_one_hash": b"".join(b"Np%d\n0" % (i * PRIME) for i in range(60000)) + b"N",
}
# harmless as long as nobody makes arrays of them
REFERENCES = {
    "a_dict_in_many_dicts": b"}(" + ENTRIES + b"uq\x010}(" + ENTRIES.replace(b"K", b"h") + b"u",
    "a_list_in_many_lists": b"]K\x01aq\x01" + (b"0](" + b"h\x01" * 1000 + b"eq\x01") * 9,
    "arrays_in_arrays": OBJECT * 20000 + b"N" + b"ltb" * 20000,
    "arrays_in_lists": (OBJECT + b"(") * 20000 + b"N" + b"lltb" * 20000,
}


@pytest.mark.slow
def test_traps_are_read_or_refused_in_time(tmp_path):
    expected = []
    for name, trap in sorted({**TRAPS, **REFERENCES}.items()):
        inside = RAW + b"(K\x01)" + O8 + b"I00\n(" + trap + b"ltb."
        write_pickle(tmp_path / f"{name}.npy", inside, ())
        (tmp_path / f"{name}.pkl").write_bytes(trap + b".")
        read = "value" if name in REFERENCES else "refused"
        expected += [f"{name}.npy", read, read, f"{name}.pkl", read]
    assert in_child(read_traps, tmp_path) == expected


@pytest.mark.slow
def test_damage_at_random_gives_arrays_or_one_line(tmp_path):
    rounds = 6000
    values, refused = map(int, in_child(read_damaged, tmp_path / "a.npy", rounds))
    assert values + refused == 2 * rounds and min(values, refused) > rounds / 50


# ---- the index


@pytest.mark.parametrize("protocol", [4, 5, "Python 2"])
def test_the_index_reads_no_payload(tmp_path, protocol):
    features = objects(*(np.full((100 + i, 2048), i, np.float32) for i in range(8)))  # 7 MB
    data = python_2(features) if protocol == "Python 2" else pickle.dumps(features, protocol)
    path = write_pickle(tmp_path / "joint.npy", data, (8,))
    tracemalloc.start()
    try:
        items = index_npy(path)
        assert tracemalloc.get_traced_memory()[1] < 10**5
        read = items[7].read()
        assert tracemalloc.get_traced_memory()[1] < 1.5 * features[7].nbytes
    finally:
        tracemalloc.stop()
    same(read, features[7])
    assert [item.shape for item in items] == [(100 + i, 2048) for i in range(8)]


def test_the_index_of_rows_and_of_other_objects(tmp_path):
    path, rows = tmp_path / "a.npy", np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    np.save(path, rows)
    for item, expected in zip(index_npy(path, rows=True), rows, strict=True):
        same(item.read(), expected)
    for array in (np.asfortranarray(rows), np.arange(3.0), np.ones((0, 10**5))):
        np.save(path, array)
        same(index_npy(path, rows=len(array) > 0).read(), array)
    np.save(path, objects([[1, 2.5], [3, 4]], None, "text"), allow_pickle=True)
    assert index_npy(path) == [[[1, 2.5], [3, 4]], None, "text"]
    np.save(path, np.array({"v": np.ones((2, 2))}, object), allow_pickle=True)
    same(index_npy(path)["v"], np.ones((2, 2)))


def test_a_file_cut_after_it_was_indexed(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, objects(np.zeros((100, 100)), np.ones((100, 100))), allow_pickle=True)
    items = index_npy(path)
    os.truncate(path, 100_000)
    same(items[0].read(), np.zeros((100, 100)))
    assert "cut short" in line_of(items[1].read)
    path.unlink()
    assert "no such file" in line_of(items[0].read)


# ---- .npz, .pt, JSON


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    save(tmp_path / "a.npz", rgb=FEATURES[0], flow=FEATURES[3], names=objects("a", b"b"))
    arrays = load_npz(tmp_path / "a.npz")
    assert sorted(arrays) == ["flow", "names", "rgb"] and list(arrays["names"]) == ["a", b"b"]
    same(arrays["rgb"], FEATURES[0])
    same(arrays["flow"], FEATURES[3])


def test_a_broken_npz_is_one_line(tmp_path):
    path = tmp_path / "a.npz"
    write_pickle(tmp_path / "x.npy", b"cos\nsystem\n.")
    np.savez_compressed(path, rgb=np.zeros((100, 100)))
    data = path.read_bytes()
    for end in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        assert line_of(load_npz, path).startswith(f"{path}: found ")
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.integers(0, len(data))] = rng.integers(0, 256)
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            load_npz(path)
    np.savez(path, rgb=np.zeros((100, 100)))
    stored = bytearray(path.read_bytes())
    stored[5000] ^= 1  # a value, which only the checksum tells
    path.write_bytes(stored)
    assert "CRC" in line_of(load_npz, path)
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            archive.write(tmp_path / "x.npy", "rgb.npy")
    assert "two arrays of one name" in line_of(load_npz, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rgb.npy", b"no array")
    assert "rgb.npy: found a file that starts with b'no array'" in line_of(load_npz, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "x.npy", "rgb.npy")
    assert "rgb.npy: found a pickle that asks for os.system" in line_of(load_npz, path)


def test_an_npz_that_promises_more_than_it_can_hold(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rgb.npy", b"x")
    data = bytearray((tmp_path / "a.npz").read_bytes())
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 2**31)  # its size once unpacked
    (tmp_path / "a.npz").write_bytes(data)
    assert "more data promised" in line_of(load_npz, tmp_path / "a.npz")


def test_pt(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "0.pt"
    content = {"x": torch.arange(6).reshape(2, 3), "names": ["a"], "n": 1}
    for zipped in (True, False):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        read = load_pt(path)
        assert read["x"].equal(content["x"]) and read["names"] == ["a"] and read["n"] == 1
    torch.save("video_test_0000004", path)
    assert load_pt(path) == "video_test_0000004"


def test_a_pt_file_that_would_execute_code_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    canary = tmp_path / "canary"
    path = tmp_path / "evil.pt"
    for zipped in (True, False):
        torch.save(
            {"x": Evil(os.system, f"touch {canary}")}, path, _use_new_zipfile_serialization=zipped
        )
        assert f"asks for {os.system.__module__}.system" in line_of(load_pt, path)
    path.write_bytes(pickle.dumps(Evil(os.system, f"touch {canary}"), 2))
    line_of(load_pt, path)
    assert not canary.exists()


def test_broken_pt_files_are_one_line(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "0.pt"
    for zipped in (True, False):
        torch.save(torch.zeros(500), path, _use_new_zipfile_serialization=zipped)
        data = path.read_bytes()
        for end in (0, 1, 100, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:end])
            assert str(path) in line_of(load_pt, path)
    torch.save(torch.zeros(1).expand(10**6, 10**6), path)
    assert "tensor (1000000, 1000000) larger than its storage" in line_of(load_pt, path)
    torch.save(torch.zeros(10**6), path)
    with (
        zipfile.ZipFile(path) as stored,
        zipfile.ZipFile(tmp_path / "1.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    assert "compressed archive" in line_of(load_pt, tmp_path / "1.pt")


JSON = [
    ("empty", b"", "found an empty file, expected valid JSON"),
    ("blank", b" \n", "found an empty file"),
    ("cut", b'{"database": {"a": ', "Expecting value at line 1 column"),
    ("two values", b"{} {}", "Extra data at line 1"),
    ("bomb of lists", b"[" * 200_000, "nested too deeply"),
    ("bomb of objects", b'{"a":' * 200_000, "nested too deeply"),
    (
        "twice",
        b'{"database": {"video_1": {}, "b": 1, "video_1": {}}}',
        "video_1: found this name twice",
    ),
    ("latin-1", b'{"caf\xe9": 1}', "found bytes at 5 that are not utf-8"),
    ("integer of 5000 digits", b"[" + b"9" * 5000 + b"]", "expected valid JSON"),
    ("binary", b"\x89HDF\r\n\x1a\n", "found"),
]


@cases("data, found", JSON)
def test_broken_json_is_one_line(tmp_path, data, found):
    (tmp_path / "a.json").write_bytes(data)
    if b"9" * 5000 in data and not hasattr(sys, "get_int_max_str_digits"):
        pytest.skip("this Python reads integers of any length")
    assert found in line_of(load_json, tmp_path / "a.json")


def test_json_beyond_the_size_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_JSON", 10)
    (tmp_path / "a.json").write_text(json.dumps("x" * 20))
    assert "found 22 bytes, expected a JSON file of at most 10" in line_of(
        load_json, tmp_path / "a.json"
    )


# ---- places

LOADERS = [load_npy, index_npz, index_npy, load_json, load_pt]


@pytest.mark.parametrize("load", LOADERS, ids=lambda f: f.__name__)
def test_missing_files_folders_and_pipes(tmp_path, load):
    if load is load_pt:
        pytest.importorskip("torch")
    assert (
        line_of(load, tmp_path / "no.npy")
        == f"{tmp_path / 'no.npy'}: found no such file, expected one"
    )
    assert line_of(load, tmp_path) == f"{tmp_path}: found a folder, expected a file"
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for a writer for ever
    assert (
        line_of(load, tmp_path / "pipe")
        == f"{tmp_path / 'pipe'}: found a device or pipe, expected a file"
    )
    (tmp_path / "file").write_text("")
    assert "expected a readable file" in line_of(load, tmp_path / "file" / "a.npy")


def test_an_input_error_is_one_line_whatever_is_in_it():
    assert str(InputError("a\nb\x1b[31m\r\u2028\ud800c")) == "a b [31m   c"


def test_show_is_short_and_never_fails():
    loop = []
    loop.append(loop)
    deep = []
    for _ in range(5000):
        deep = [deep]
    for value in (
        loop,
        deep,
        "x" * 10**6,
        10**6000,
        np.zeros((1000, 1000)),
        [np.zeros(10**6)],
        objects(*[loop] * 50),
        {i: i for i in range(10**4)},
        b"\0" * 10**6,
    ):
        assert len(files.show(value)) < 300
    assert files.show("abc") == "'abc'" and files.show([1, 2]) == "[1, 2]"


# ---- writing


def test_write_atomically(tmp_path):
    target = tmp_path / "out.npy"
    target.write_bytes(b"old")
    with write_atomically(target) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".npy"
        np.save(temporary, np.arange(3))
        assert target.read_bytes() == b"old"  # until the end
    same(load_npy(target), np.arange(3))
    assert os.listdir(tmp_path) == ["out.npy"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, error):
    for target in (tmp_path / "old.txt", tmp_path / "new.txt"):
        (tmp_path / "old.txt").write_text("old")
        with pytest.raises(error), write_atomically(target) as temporary:
            temporary.write_text("half")
            raise error
        assert os.listdir(tmp_path) == ["old.txt"] and (tmp_path / "old.txt").read_text() == "old"


def test_places_that_cannot_be_written(tmp_path):
    def write(path):
        with write_atomically(path) as temporary:
            temporary.write_text("x")

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    assert "expected a file to write" in line_of(write, tmp_path / "folder")
    assert "expected a file to write" in line_of(write, "/dev/null")
    assert "found No such file or directory, expected a folder to write in" in line_of(
        write, tmp_path / "no" / "a.txt"
    )
    assert "expected a folder to write in" in line_of(write, tmp_path / "file" / "a.txt")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(InputError, match="expected room to write"),
        write_atomically(tmp_path / "a") as temporary,
    ):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with write_atomically(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


def test_no_torch_unless_a_pt_file_is_opened():
    source = pathlib.Path(files.__file__).read_text()
    assert [line for line in source.splitlines() if "import torch" in line] == ["    import torch"]
