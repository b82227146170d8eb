"""Read .npy, .npz and pickle files that nobody vouches for.

A pickle is a program. Python's own loop runs it, but each name that it may ask for is a stand-in of
ours, which checks its arguments before it builds an array, a dtype or a scalar; other names are
refused. NumPy's own functions are not handed out: a damaged state crashes them. Memory follows the
size of the file, not what the file claims. Whatever is wrong with a file is one `InputError` line.

Arrays of 4 KiB and more stay on disk: a `FileArray` opens the file again, seeks and reads. The file
is not mapped into memory, because a training reads it for hours, and the signal SIGBUS ends Python
when a mapped file is cut short.
"""

import contextlib
import functools
import io
import math
import os
import pickle
import re
import struct
import sys
import types
import zipfile
from dataclasses import dataclass

import numpy as np

from formats.files import InputError, open_file, show

MAX_HEADER = 10_000  # bytes of a .npy header: NumPy's own limit
KEEP_ON_DISK = 4096  # bytes from which an array in a pickle is left on disk


@dataclass(frozen=True)
class FileArray:
    """An array of a file; `read()` gives its values, in a new array each time."""

    shape: tuple
    dtype: np.dtype
    read: object
    seconds: tuple = (None, None)  # from clip to clip, of a clip's window, where the array says so

    def __repr__(self):
        return f"an array {self.shape} of {self.dtype}"


@contextlib.contextmanager
def in_one_line(where, what="broken data", expected="readable features"):
    """Makes an InputError of whatever is raised inside: broken data can raise nearly anything."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(where, f"{what} ({reason(error)})", expected) from None


def reason(error):
    """An exception in a few words; of HDF5's paragraphs what the system said."""
    system = re.search("error message = '([^']*)'", str(error))
    text = " ".join(str(error).strip("'\"").split())
    return system[1] if system else f"{type(error).__name__}: {text[:200]}"


def load_npy(path):
    """The array of a .npy file (format 1 to 3): plain, or of Python objects pickled in protocol 0
    to 5.

    Python 2's strings are read as latin-1 (names.decoded makes UTF-8 of those that are). Raises
    InputError for a header that claims more or less than the file holds, a structured dtype, and a
    pickle that asks for anything but NumPy's arrays, dtypes and scalars.
    """
    with open_file(path) as (file, size):
        array = _load(file, size, path)
    for at, item in enumerate(array.flat if array.dtype.kind == "O" else ()):
        array.flat[at] = item.read() if isinstance(item, FileArray) else item
    return array


def index_npy(path, rows=False):
    """The `FileArray` of a .npy file; of an array of objects what it holds: lists and dicts, with a
    FileArray for each large array. rows: of a plain array (N, ...) a list of its rows.

    Arrays that Python 3 pickled in protocol 0 to 2 (as text) are read into memory here. Raises
    InputError as `load_npy` does.
    """
    with open_file(path) as (file, size):
        shape, dtype, order, start = _header(file, size, path)
        if dtype.kind == "O":
            file.seek(0)
            return _load(file, size, path).tolist()
    if not rows or order != "C" or len(shape) < 2 or shape[0] > size:
        return _on_disk(path, start, dtype, shape, order)
    step = _size(shape[1:], dtype)
    return [_on_disk(path, start + i * step, dtype, shape[1:]) for i in range(shape[0])]


def index_pickle(path):
    """What a pickle file holds, as `index_npy` does."""
    with open_file(path) as (file, size):
        return _unpickle(file, size, path)[0]


def index_npz(path):
    """{name: FileArray} of a .npz file; only the headers of its arrays are unpacked."""
    arrays = {}
    with _members(path) as (archive, members):
        for name, member in members.items():
            with archive.open(member) as file:
                shape, dtype, *_ = _header(file, member.file_size, f"{path}: {name}.npy")
            arrays[name] = FileArray(shape, dtype, functools.partial(_load_member, path, name))
    return arrays


# ---- .npy and .npz


@contextlib.contextmanager
def _members(path):
    """(archive, {array name: its entry}) of a .npz file that is open meanwhile."""
    with open_file(path) as (file, size), in_one_line(path, "a broken .npz", "NumPy arrays"):
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            members = {entry.filename.removesuffix(".npy"): entry for entry in entries}
            if len(members) < len(entries):
                raise ValueError("two arrays of one name")
            if sum(entry.file_size for entry in entries) > 1032 * size:  # deflate packs no denser
                raise ValueError(f"more data promised than {size} bytes can hold")
            yield archive, members


def _load_member(path, name):
    with _members(path) as (archive, members):
        data = archive.read(members[name])
        return _load(io.BytesIO(data), len(data), f"{path}: {name}.npy")


def _header(file, size, where):
    """(shape, dtype, order, length) of the header of a .npy file of `size` bytes. InputError unless
    it claims as many bytes as there are, or objects."""
    start = file.read(MAX_HEADER)
    if start[:6] != np.lib.format.MAGIC_PREFIX:
        found = f"a file that starts with {show(start[:8])}" if size else "an empty file"
        raise InputError(where, found, "a NumPy .npy file")
    # Python 2 wrote some numbers of the shape as 412L
    header = io.BytesIO(re.sub(rb"(?<=\d)L(?=[,)\s])", b" ", start))
    with in_one_line(where, "a header that cannot be read", "NumPy arrays"):
        one, two = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
        read = {(1, 0): one, (2, 0): two, (3, 0): two}[np.lib.format.read_magic(header)]
        shape, fortran, dtype = read(header)
        dtype = _dtype(dtype.str)
        need, left = _size(shape, dtype), size - header.tell()
    if dtype.kind != "O" and left != need:
        raise InputError(where, f"{left} bytes after the header", f"{need} for {shape} {dtype}")
    return shape, dtype, "F" if fortran else "C", header.tell()


def _dtype(text):
    """The dtype of a type string, such as <f4, |S17 or O. ValueError for fields, dates, others."""
    plain = r"[<>|=]?([biu][1248]|f[248]|c8|c16|[SU]\d{1,9}|\?|O[48]?)"
    if not isinstance(text, str) or not re.fullmatch(plain, text):
        raise ValueError(f"dtype {show(text)}")
    return np.dtype(object if "O" in text else text)


def _size(shape, dtype):
    """How many bytes an array takes, or how many objects. ValueError for an impossible shape, and
    for one of no bytes that becomes large as a list."""
    each, dims = (1, 3) if dtype.kind == "O" else (dtype.itemsize, 32)
    possible = isinstance(shape, tuple) and len(shape) <= dims
    if not possible or not all(type(n) is int and 0 <= n <= sys.maxsize for n in shape):
        raise ValueError(f"shape {show(shape)}")
    count = math.prod(shape)
    if count and not each or max(shape, default=0) > max(count, 10**6):
        raise ValueError(f"shape {show(shape)} of {dtype} without content")
    return each * count


def _load(file, size, where):
    """The array of a .npy file; large arrays in an array of objects are FileArrays."""
    shape, dtype, order, start = _header(file, size, where)
    file.seek(start)
    if dtype.kind != "O":
        with in_one_line(where, "a broken array", "NumPy arrays"):
            return _values(file, dtype, shape, order)
    value, array = _unpickle(file, size, where)
    if array is None or array.shape != shape:
        raise InputError(where, f"a pickle of {show(value)}", f"objects {shape}")
    return array


def _values(file, dtype, shape, order):
    """The array whose values `file` has from here on."""
    flat = np.empty(math.prod(shape), dtype)
    if flat.size and file.readinto(flat.view(np.uint8)) != flat.nbytes:
        raise EOFError("the file cut short")
    if dtype.kind == "U" and flat.size and flat.view(dtype.str[0] + "u4").max() > sys.maxunicode:
        raise ValueError("characters beyond Unicode")
    return flat.reshape(shape, order=order)


def _on_disk(path, start, dtype, shape, order="C"):
    """The FileArray of an array whose values the file has from `start` on."""

    def read():
        with open_file(path) as (file, _), in_one_line(path, "a broken array", "NumPy arrays"):
            file.seek(start)
            return _values(file, dtype, shape, order)

    return FileArray(shape, dtype, read)


# ---- pickles


def _unpickle(file, size, where):
    """What is pickled in `file` from here to its end, and the last array of objects in it, or
    None."""
    with in_one_line(where, "a broken pickle", "NumPy arrays"):
        machine = _Unpickler(file, size, where)
        value = machine.load()
        if file.tell() != size:
            raise ValueError(f"{size - file.tell()} bytes after its end")
    return value, machine.objects


class _Type:
    """Stand-in for a dtype: made of its type string, it gets the byte order afterwards."""

    def __init__(self, text, align=False, copy=True):
        self.dtype = _dtype(text)


class _Blank:
    """Stand-in for an array before its content is known."""

    array = None


class _Memo(dict):
    """What a pickle refers to again, by number; for a blank, the array that it became."""

    def __getitem__(self, index):
        value = super().__getitem__(index)
        return value.array if isinstance(value, _Blank) else value

    def __setitem__(self, index, value):
        if index >= 2**32:  # picklers count up; many large numbers can share one hash
            raise ValueError(f"memo index {show(index)}")
        super().__setitem__(index, value)


class _Unpickler(pickle._Unpickler):
    """Python's loop, the one in Python: its opcodes can be replaced, and its memo grows with the
    file; the one in C allocates as many entries as an index claims."""

    def __init__(self, file, size, where):
        reader = types.SimpleNamespace(read=self.take, readline=file.readline)
        super().__init__(reader, encoding="latin1")
        self.file, self.size, self.where = file, size, where
        self.memo, self.objects = _Memo(), None
        self.stand_ins = {
            "numpy.ndarray": None,  # only named, as the class of an array
            "numpy.dtype": _Type,
            "numpy.core.multiarray._reconstruct": lambda kind, shape, typecode: _Blank(),
            "numpy.core.multiarray.scalar": self.scalar,
            "numpy.core.numeric._frombuffer": self.array,
            "_codecs.encode": lambda text, encoding: text.encode("latin1"),
            "builtins.bytes": lambda: b"",  # not bytes itself: a pickle may ask for 10**9
        }

    def find_class(self, module, name):
        asked = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        asked = asked.replace("__builtin__.", "builtins.")
        if asked not in self.stand_ins:
            found = f"a pickle that asks for {module}.{name}"[:100]
            raise InputError(self.where, found, "NumPy arrays only")
        return self.stand_ins[asked]

    def array(self, raw, kind, shape, order="C", axes=None):
        """The array of its content: bytes; their range in the file, which gives a FileArray; or a
        list of objects, which gives a list: NumPy frees nested object arrays by recursion that
        exhausts the stack."""
        dtype = kind.dtype
        if isinstance(raw, str):  # Python 2's bytes
            raw = raw.encode("latin1")
        right = list if dtype.kind == "O" else (bytes, range)
        if not isinstance(raw, right) or len(raw) != _size(shape, dtype):
            raise ValueError(f"{show(raw)} for an array {shape} of {dtype}")
        if isinstance(raw, list):
            self.objects = np.fromiter(raw, object, len(raw)).reshape(shape)
            return self.objects.tolist() if raw else []
        if isinstance(raw, range):
            return _on_disk(self.where, raw.start, dtype, shape, order)
        return _values(io.BytesIO(raw), dtype, shape, order)

    def scalar(self, kind, raw):
        if not kind.dtype.itemsize:  # an empty text
            return kind.dtype.type()
        return self.array(raw, kind, ())[()]

    def load_build(self):
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _Type):
            target.dtype = target.dtype.newbyteorder(state[1])
        elif isinstance(target, _Blank):
            shape, kind, fortran, raw = state[-4:]
            self.stack[-1] = target.array = self.array(raw, kind, shape, "F" if fortran else "C")
        else:
            raise ValueError(f"the state of {type(target).__name__}")

    def take(self, n):
        """The next n bytes; never more are allocated than the file has."""
        data = self.file.read(min(n, self.size))
        if len(data) != n:
            raise EOFError(f"{n} bytes announced, {len(data)} left")
        return data

    def payload(self, form):
        """Bytes behind their length in the form of `struct`: long ones as a range of the file."""
        (n,) = struct.unpack(form, self.take(struct.calcsize(form)))
        if n < KEEP_ON_DISK:
            self.append(self.take(n))
        else:
            start = self.file.seek(n, os.SEEK_CUR) - n  # beyond the end, the next `take` fails
            self.append(range(start, start + n))

    def set_items(self, items):
        """Into the dict on the stack. Hashing a key that is a tuple of tuples never ends."""
        content, keys = self.stack[-1], items[::2]
        if not isinstance(content, dict) or not all(isinstance(key, (str, bytes)) for key in keys):
            raise ValueError(f"keys {show(keys)} of {type(content).__name__}")
        content.update(zip(keys, items[1::2], strict=True))

    def load_dict(self):
        items = self.pop_mark()
        self.append({})
        self.set_items(items)

    dispatch = pickle._Unpickler.dispatch | {
        pickle.FRAME[0]: lambda self: self.take(8),  # frames only help buffering
        pickle.BINBYTES[0]: lambda self: self.payload("<I"),
        pickle.BINBYTES8[0]: lambda self: self.payload("<Q"),
        pickle.BYTEARRAY8[0]: lambda self: self.payload("<Q"),
        pickle.BINSTRING[0]: lambda self: self.payload("<i"),
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: lambda self: self.set_items([self.stack.pop(-2), self.stack.pop()]),
        pickle.SETITEMS[0]: lambda self: self.set_items(self.pop_mark()),
        pickle.DICT[0]: load_dict,
        **dict.fromkeys(b"\x90\x91"),  # members of a set: None cannot be called
    }
