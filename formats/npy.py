"""Read .npy and .npz files that nobody vouches for, pickled object arrays included.

A .npy file may hold a pickle, and a pickle is a program. Here it runs on a machine of its own that
knows the handful of names NumPy needs to rebuild arrays and nothing else, calls no NumPy function
with unchecked arguments, and allocates nothing that the file does not hold. Whatever is wrong with
a file comes out as one `InputError` line.
"""

import ast
import contextlib
import io
import math
import os
import pickle
import re
import struct
import sys
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

from formats.files import InputError, open_file, show

# Bytes of a .npy header: NumPy's own limit, as parsing longer text may exhaust the stack.
MAX_HEADER = 10_000
# Bytes from which index_object_npy notes where a payload lies instead of reading it.
KEEP_ON_DISK = 4096
MAX_DIMS = 32


def load_npy(path):
    """The array of a .npy file (format 1 to 3): plain, or an array of Python objects pickled in
    protocol 0 to 5.

    Python 2's strings are read as latin-1 (names.decoded makes UTF-8 of those that are). Raises
    InputError for a header that claims more than the file holds, a truncated file, bytes after the
    array, a structured dtype, and a pickle that asks for anything but NumPy's arrays, dtypes and
    scalars (the message names what it asked for).
    """
    with open_file(path) as (file, size):
        return _read_npy(file, size, path)


def npy_header(path):
    """(shape, dtype) that a .npy file declares and is long enough to hold; nothing else is read."""
    with open_file(path) as (file, size):
        dtype, shape, _ = _read_header(file, size, path)
    return shape, dtype


def load_npz_member(path, name):
    """One array of a .npz file, by its name."""
    with _members(path) as (archive, members):
        data = archive.read(members[name])
        return _read_npy(io.BytesIO(data), len(data), f"{path}: {members[name].filename}")


def npz_headers(path):
    """{name: (shape, dtype)} of the arrays of a .npz file; only their headers are unpacked."""
    headers = {}
    with _members(path) as (archive, members):
        for name, member in members.items():
            with archive.open(member) as file:
                start = io.BytesIO(file.read(MAX_HEADER + 12))
            dtype, shape, _ = _read_header(start, member.file_size, f"{path}: {member.filename}")
            headers[name] = shape, dtype
    return headers


@contextlib.contextmanager
def _members(path):
    """(archive, {array name: its entry}) of a .npz file that is open meanwhile."""
    with open_file(path) as (file, size):
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
                # deflate packs at most 1032 to 1: a file that promises more is not unpacked
                if sum(entry.file_size for entry in entries) > 1032 * size:
                    raise InputError(
                        f"{path}: found more data promised than {size} bytes can "
                        "hold, expected a .npz"
                    )
                members = {}
                for entry in entries:
                    name = entry.filename.removesuffix(".npy")
                    if name in members:
                        raise InputError(
                            f"{path}: found {show(name)} twice, expected each name once"
                        )
                    members[name] = entry
                yield archive, members
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
            EOFError,
            zlib.error,
        ) as error:
            raise InputError(
                f"{path}: found a broken .npz ({error}), expected a zip of .npy files"
            ) from None


def index_object_npy(path):
    """The arrays of a .npy file that holds one array per video, opened without reading them.

    Gives a list of `ArrayItem`, each with `.shape`, `.dtype` and `.read()`, which fetches that one
    array from disk: a joint feature file of gigabytes costs kilobytes to open. Takes an object
    array (N,) of arrays or nested lists, a 0-d object array around a list of them, and a plain
    array (N, ...), whose rows are the items. Of a 0-d object array around a dict it gives a dict of
    the same keys. Arrays pickled in protocol 1 to 5 stay on disk; protocol 0 is text, and nested
    lists are Python objects: these are decoded at once. Raises InputError as `load_npy` does.
    """
    with open_file(path) as (file, size):
        dtype, shape, fortran = _read_header(file, size, path)
        if dtype.kind != "O":
            return _rows(path, file.tell(), size, dtype, shape, fortran)
        whole = _unpickle(file, size, path, shape, lazy=True)
    items = whole.raw
    if whole.shape == () and isinstance(items[0], dict):
        return _items(path, "", items[0], size)
    if whole.shape == () and isinstance(items[0], list):
        items = items[0]
    elif len(whole.shape) > 1:
        raise InputError(
            f"{path}: found an object array of shape {whole.shape}, expected one "
            "array per video, (N,)"
        )
    return [_item(path, i, value, size) for i, value in enumerate(items)]


def index_pickle(path):
    """What a pickle file of NumPy arrays holds, opened without reading them: an `ArrayItem`, or a
    dict of them.

    Arrays, nested lists of numbers, and dicts of these (two levels deep at most). Raises InputError
    as `load_npy` does.
    """
    with open_file(path) as (file, size):
        return _items(path, 0, _run_pickle(file, size, path, lazy=True), size)


def _items(path, index, value, size, levels=2):
    """The ArrayItem of a value, or for a dict a dict of them."""
    if not isinstance(value, dict) or not levels:
        return _item(path, index, value, size)
    return {key: _items(path, show(key), inner, size, levels - 1) for key, inner in value.items()}


class ArrayItem(NamedTuple):
    """One array of `index_object_npy`: shape and dtype as stored, and a function that reads it."""

    shape: tuple
    dtype: np.dtype
    read: object


def _rows(path, start, size, dtype, shape, fortran):
    if len(shape) < 2 or fortran or shape[0] > size:
        raise InputError(
            f"{path}: found one array of shape {shape}{' in Fortran order' if fortran else ''}, "
            "expected one array per video"
        )
    length = math.prod(shape[1:]) * dtype.itemsize
    return [
        _item(path, i, _Lazy(shape[1:], dtype, _Span(start + i * length, length)), size)
        for i in range(shape[0])
    ]


def _item(path, index, value, size):
    """The ArrayItem of one element of the object array: an array left on disk, or nested lists held
    in memory."""
    shape, dtype = _nested_shape(value, 4)
    if shape is None:
        raise InputError(
            f"{path}: item {index}: found {_kind(value)}, expected an array of numbers"
        )
    # a number takes a byte of pickle at least: more of them are references to one list, repeated
    # without bound
    if isinstance(value, list) and math.prod(shape) > size:
        raise InputError(
            f"{path}: item {index}: found nested lists of shape {shape}, more than the file holds"
        )

    def read():
        try:
            return np.asarray(_nested_values(value, shape, path), dtype)
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: item {index}: found {error}, expected numbers") from None

    return ArrayItem(tuple(shape), dtype, read)


def _nested_shape(value, levels):
    """Shape and dtype of an array, or of nested lists going by the first element of each; (None,
    None) for others."""
    if isinstance(value, _Lazy) and value.dtype.kind != "O":
        return value.shape, value.dtype
    if isinstance(value, (int, float)):
        return (), np.dtype(np.float64)
    if isinstance(value, np.number):
        return (), value.dtype
    if not isinstance(value, (list, tuple)) or not levels:
        return None, None
    shape, dtype = _nested_shape(value[0], levels - 1) if value else ((), np.dtype(np.float64))
    return (None, None) if shape is None else ((len(value), *shape), dtype)


def _nested_values(value, shape, path):
    if isinstance(value, _Lazy) and value.dtype.kind != "O" and value.shape == shape:
        return value.read(path)
    if isinstance(value, (int, float, np.number)) and not shape:
        return value
    if not isinstance(value, (list, tuple)) or not shape or len(value) != shape[0]:
        raise ValueError(f"{_kind(value)} among lists of shape {shape}")
    return [_nested_values(v, shape[1:], path) for v in value]


def _kind(value):
    if isinstance(value, (_Lazy, np.ndarray)):
        return f"an array {value.shape} of {value.dtype}"
    return (
        f"{len(value)} {type(value).__name__} items"
        if isinstance(value, (list, tuple))
        else show(value)
    )


def _read_npy(file, size, path):
    dtype, shape, fortran = _read_header(file, size, path)
    if dtype.kind == "O":
        return _unpickle(file, size, path, shape, lazy=False)
    left = size - file.tell()
    if left != math.prod(shape) * dtype.itemsize:
        raise InputError(
            f"{path}: found {left} bytes after the header, expected "
            f"{math.prod(shape) * dtype.itemsize} for {shape} {dtype}"
        )
    try:
        flat = np.empty(math.prod(shape), dtype)
        array = flat.reshape(shape, order="F" if fortran else "C")
    except (ValueError, MemoryError) as error:
        raise InputError(
            f"{path}: found shape {shape} {dtype} ({error}), expected an array that fits in memory"
        ) from None
    if left and file.readinto(flat.view(np.uint8)) != left:
        raise InputError(
            f"{path}: found the file cut short while it was read, expected {left} bytes"
        )
    if not _is_text(flat, dtype):
        raise InputError(
            f"{path}: found characters beyond Unicode in an array of {dtype}, expected text"
        )
    return array


def _read_header(file, size, path):
    """dtype, shape and Fortran order from a .npy header, checked against the file's size; `file` is
    left behind it."""

    def refuse(found):
        raise InputError(f"{path}: found {found}, expected a NumPy .npy file")

    start = file.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY":
        refuse("an empty file" if size == 0 else f"a file that starts with {show(start)}")
    if start[6] not in (1, 2, 3) or start[7] != 0:
        refuse(f"format version {start[6]}.{start[7]}")
    field = file.read(2 if start[6] == 1 else 4)
    length = int.from_bytes(field, "little")
    if length > MAX_HEADER or length > size - file.tell():
        refuse(f"a header of {length} bytes in a file of {size}")
    text = file.read(length).decode("utf-8" if start[6] == 3 else "latin1", "replace")
    try:
        # Python 2 on some systems wrote the shape's numbers as 412L
        header = ast.literal_eval(re.sub(r"(?<=\d)L(?=[,)\s])", "", text).strip())
        descr, fortran, shape = header["descr"], header["fortran_order"], header["shape"]
        dtype = _dtype(descr)
        if _count(shape) and not dtype.itemsize:
            raise ValueError(f"{shape} elements of no size")
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        reason = error if isinstance(error, ValueError) else type(error).__name__
        refuse(f"a header that cannot be read ({reason}: {show(text)})")
    if dtype.kind != "O" and math.prod(shape) * dtype.itemsize > size - file.tell():
        raise InputError(
            f"{path}: found {size - file.tell()} bytes after the header, expected "
            f"{math.prod(shape) * dtype.itemsize} for {shape} {dtype}"
        )
    if (
        dtype.kind == "O" and math.prod(shape) > size - file.tell()
    ):  # an element takes a byte of pickle at least
        raise InputError(
            f"{path}: found {size - file.tell()} bytes after the header, too few for "
            f"{shape} objects"
        )
    return dtype, shape, bool(fortran)


def _dtype(text):
    """The dtype of a plain type string, such as <f4, |S17 or O; fields, dates and Python types are
    refused."""
    if not isinstance(text, str) or not re.fullmatch(r"[<>|=]?([biufcSU]\d{1,9}|\?|O[48]?)", text):
        raise ValueError(f"dtype {show(text)}")
    if "O" in text:
        return np.dtype(object)
    try:
        return np.dtype(text)
    except TypeError:
        raise ValueError(f"dtype {show(text)}") from None


def _is_text(raw, dtype):
    """False where an array of NumPy's 4-byte text holds what is no character, at which NumPy would
    stumble later."""
    return (
        dtype.kind != "U"
        or not len(raw)
        or np.frombuffer(raw, dtype.str[0] + "u4").max() <= sys.maxunicode
    )


def _count(shape):
    """The number of elements of a shape, refused unless NumPy could hold it."""
    if (
        not isinstance(shape, tuple)
        or len(shape) > MAX_DIMS
        or not all(type(n) is int for n in shape)
    ):
        raise ValueError(f"shape {show(shape)}")
    if any(n < 0 for n in shape) or math.prod(n for n in shape if n) > sys.maxsize:
        raise ValueError(f"shape {show(shape)}")
    return math.prod(shape)


# ---- the pickle machine -------------------------------------------------------------------------


class _Span:
    """Bytes left on disk. `utf8`: as text of the characters 0 to 255, as Python 3 writes them in
    protocols 1 and 2."""

    def __init__(self, offset, length, utf8=False):
        self.offset, self.length, self.utf8 = offset, length, utf8

    def read(self, path):
        with open_file(path) as (file, _):
            file.seek(self.offset)
            data = bytearray(self.length)
            if file.readinto(data) != self.length:
                raise InputError(
                    f"{path}: found the file cut short since it was opened, expected "
                    f"{self.length} bytes at {self.offset}"
                )
        return bytearray(data.decode("utf-8").encode("latin1")) if self.utf8 else data


class _Lazy:
    """An array that the pickle describes: its raw bytes in memory or a `_Span`; a list for an array
    of objects."""

    def __init__(self, shape=(), dtype=None, raw=None, order="C"):
        self.shape, self.dtype, self.raw, self.order = shape, dtype, raw, order

    def read(self, path):
        raw = self.raw.read(path) if isinstance(self.raw, _Span) else self.raw
        return _array(
            raw if isinstance(self.raw, _Span) else bytearray(raw),
            self.dtype,
            self.shape,
            self.order,
        )


class _Name:
    """A name that the pickle asked for and may use; it stands for one of `_Unpickler.build_*`, and
    is not callable."""

    def __init__(self, role):
        self.role = role


class _DtypeState:
    """A dtype under construction: the pickle makes it from its type string and sets the byte order
    afterwards."""

    def __init__(self, dtype):
        self.dtype = dtype


ALLOWED = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    # protocols 0 to 2 write empty bytes as a call of bytes()
    ("builtins", "bytes"): "bytes",
    ("__builtin__", "bytes"): "bytes",
}
for _package in ("numpy.core", "numpy._core"):
    ALLOWED[_package + ".multiarray", "_reconstruct"] = "reconstruct"
    ALLOWED[_package + ".multiarray", "scalar"] = "scalar"
    ALLOWED[_package + ".multiarray", "_frombuffer"] = ALLOWED[
        _package + ".numeric", "_frombuffer"
    ] = "frombuffer"


def _array(raw, dtype, shape, order):
    """An array over `raw`, whose length has been checked to be exactly that of the shape."""
    if not len(raw):
        return np.empty(shape, dtype)
    return np.frombuffer(raw, dtype).reshape(shape, order=order)


class _Unpickler(pickle._Unpickler):
    """Python's own pickle loop, with every opcode that could call, import or set something
    replaced.

    The loop in Python, not the one in C, for two reasons: payloads can be skipped, and memory
    follows the file's size (the C one grows its memo to whatever index the file names).
    """

    def __init__(self, file, size, lazy):
        super().__init__(self, encoding="latin1")  # itself the file, to check the lengths asked for
        self.file, self.size, self.lazy = file, size, lazy
        self.unset = {}  # id -> array that waits for its state

    def read(self, n):
        if n > 65536:  # before anything of that size is allocated
            self.held(n)
        data = self.file.read(n)
        if len(data) < n:
            raise EOFError("the end of the file")
        return data

    def held(self, n):
        left = self.size - self.file.tell()
        if not 0 <= n <= left:
            raise EOFError(f"{n} bytes announced where {left} are left")

    def readline(self):
        return self.file.readline()

    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise _Refused(f"{module}.{name}")
        return _Name(ALLOWED[module, name])

    def payload(self, n, utf8=False):
        """n bytes, or the note where they lie."""
        if not self.lazy or n < KEEP_ON_DISK:
            return self.read(n)
        self.held(n)
        here = self.file.tell()
        self.file.seek(n, os.SEEK_CUR)
        return _Span(here, n, utf8)

    def load_frame(self):
        self.read(8)  # frames only help buffering: read on as if there were none

    def load_binbytes(self):
        self.append(self.payload(*struct.unpack("<I", self.read(4))))

    def load_binbytes8(self):
        self.append(self.payload(*struct.unpack("<Q", self.read(8))))

    def load_bytearray8(self):
        data = self.payload(*struct.unpack("<Q", self.read(8)))
        self.append(data if isinstance(data, _Span) else bytearray(data))

    def load_binstring(self):  # Python 2's str: bytes, or text in latin-1
        (n,) = struct.unpack("<i", self.read(4))
        if n < 0:
            raise ValueError("a negative length")
        data = self.payload(n)
        self.append(data if isinstance(data, _Span) else data.decode("latin1"))

    def load_unicode_of(self, n):
        data = self.payload(n, utf8=True)
        self.append(data if isinstance(data, _Span) else data.decode("utf-8", "surrogatepass"))

    def load_binunicode(self):
        self.load_unicode_of(*struct.unpack("<I", self.read(4)))

    def load_binunicode8(self):
        self.load_unicode_of(*struct.unpack("<Q", self.read(8)))

    def load_reduce(self):
        args = self.stack.pop()
        name = self.stack[-1]
        if not isinstance(name, _Name) or not isinstance(args, tuple):
            raise _Refused(f"a call of {show(name)}")
        if name.role == "ndarray":
            raise _Refused("a call of numpy.ndarray")
        self.stack[-1] = getattr(self, "build_" + name.role)(*args)

    def build_encode(self, text, encoding):
        if encoding not in ("latin1", "latin-1"):
            raise _Refused(f"_codecs.encode to {show(encoding)}")
        return text if isinstance(text, _Span) else text.encode("latin1")

    def build_bytes(self):
        return b""

    def build_dtype(self, text, align=False, copy=True):
        return _DtypeState(_dtype(text.decode("latin1") if isinstance(text, bytes) else text))

    def build_scalar(self, dtype, raw):
        raw, dtype = _raw(raw), dtype.dtype
        if dtype.kind == "O" or len(raw) != dtype.itemsize:
            raise ValueError(f"a scalar of {dtype} in {len(raw)} bytes")
        return np.frombuffer(raw, dtype)[0] if len(raw) else dtype.type()

    def build_reconstruct(self, kind, shape, typecode):
        if not isinstance(kind, _Name) or kind.role != "ndarray":
            raise _Refused(f"an array of class {show(kind)}")
        array = _Lazy() if self.lazy else np.empty(0, np.int8)
        self.unset[id(array)] = array  # a reference, so that the id stays its own
        return array

    def build_frombuffer(self, raw, dtype, shape, order, axes=None):
        if order not in ("C", "F"):
            raise ValueError(f"order {show(order)}")
        raw = self.checked(raw, dtype, shape)
        return (
            _Lazy(shape, dtype.dtype, raw, order)
            if self.lazy
            else _array(raw, dtype.dtype, shape, order)
        )

    def load_build(self):
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _DtypeState):
            # (version, byte order, subarray, names, fields, ...): the middle three are None for a
            # plain dtype
            if len(state) < 5 or state[2:5] != (None, None, None):
                raise ValueError(f"dtype state {show(state)}")
            target.dtype = target.dtype.newbyteorder(state[1])
        elif self.unset.pop(id(target), None) is not None:
            shape, dtype, fortran, raw = state[-4:]
            raw = self.checked(raw, dtype, shape)
            if self.lazy:
                target.__init__(shape, dtype.dtype, raw, "F" if fortran else "C")
            else:
                target.__setstate__((1, shape, dtype.dtype, bool(fortran), raw))
        else:
            raise _Refused(f"setting the state of {type(target).__name__}")

    def checked(self, raw, dtype, shape):
        """The raw content of an array, once it is exactly as long as shape and dtype say."""
        count = _count(shape)
        if dtype.dtype.kind == "O":
            if not isinstance(raw, list) or len(raw) != count:
                raise ValueError(f"objects for shape {shape}")
            return raw
        need = count * dtype.dtype.itemsize
        if dtype.dtype.itemsize == 0 and count:
            raise ValueError(f"{count} elements of no size")
        raw = raw if isinstance(raw, _Span) else _raw(raw)
        length, most = (
            (raw.length, 2 * need if raw.utf8 else need)
            if isinstance(raw, _Span)
            else (len(raw), need)
        )
        if not need <= length <= most:  # a character of utf-8 text is a byte or two
            raise ValueError(f"an array {shape} of {dtype.dtype} in {length} bytes")
        if not isinstance(raw, _Span) and not _is_text(raw, dtype.dtype):
            raise ValueError("characters beyond Unicode")
        return raw

    def refuse(self):
        raise _Refused("building an object of a class")

    dispatch = dict(pickle._Unpickler.dispatch)
    for _op, _method in (
        ("FRAME", load_frame),
        ("BINBYTES", load_binbytes),
        ("BINBYTES8", load_binbytes8),
        ("BYTEARRAY8", load_bytearray8),
        ("BINSTRING", load_binstring),
        ("BINUNICODE", load_binunicode),
        ("BINUNICODE8", load_binunicode8),
        ("REDUCE", load_reduce),
        ("BUILD", load_build),
        ("OBJ", refuse),
        ("NEWOBJ", refuse),
        ("NEWOBJ_EX", refuse),
        ("EXT1", refuse),
        ("EXT2", refuse),
        ("EXT4", refuse),
        ("PERSID", refuse),
        ("BINPERSID", refuse),
        ("NEXT_BUFFER", refuse),
        ("READONLY_BUFFER", refuse),
    ):
        dispatch[getattr(pickle, _op)[0]] = _method


class _Refused(Exception):
    """The pickle asks for what is not admitted."""


def _raw(data):
    if isinstance(data, str):  # Python 2's bytes
        return data.encode("latin1")
    if not isinstance(data, (bytes, bytearray)):
        raise ValueError(f"{type(data).__name__} for an array's bytes")
    return data


def _unpickle(file, size, path, shape, lazy):
    """The object array pickled in `file` from here to its end."""
    array = _run_pickle(file, size, path, lazy)
    is_array = isinstance(array, (_Lazy, np.ndarray))
    if not is_array or array.dtype.kind != "O" or array.shape != shape:
        raise InputError(
            f"{path}: found a pickle of {_kind(array)}, expected an array {shape} of object"
        )
    return array


def _run_pickle(file, size, path, lazy):
    """What is pickled in `file` from here to its end."""
    try:
        value = _Unpickler(file, size, lazy).load()
    except _Refused as error:
        raise InputError(
            f"{path}: found a pickle that asks for {error}, expected NumPy arrays only"
        ) from None
    except Exception as error:  # a broken pickle, a program, may raise nearly anything
        raise InputError(
            f"{path}: found a broken pickle ({type(error).__name__}: "
            f"{show(str(error))}), expected arrays"
        ) from None
    if file.tell() != size:
        raise InputError(
            f"{path}: found {size - file.tell()} bytes after the pickle, expected none"
        )
    return value
