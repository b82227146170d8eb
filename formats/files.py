"""Open files from outside and write files whole: InputError, JSON, .pt, atomic writes.

Every reader of this project raises `InputError` for bad input: one line that names the file, what
was found and what to do.
"""

import codecs
import contextlib
import errno
import glob
import hashlib
import inspect
import json
import os
import pathlib
import re
import reprlib
import stat
import uuid
import warnings
import zipfile

import filelock

MAX_JSON = 512 * 2**20  # bytes; parsed, JSON takes some ten times as much memory


class InputError(ValueError):
    """Something is wrong with what the user gave: one line that names the place, what was found
    there, and what is expected or to be done.

    where: file, and video where there is one ("features.h5: video_1"), or option. found and
    expected may be left out where `where` is a whole line, such as another program's.
    """

    def __init__(self, where, found=None, expected=None):
        self.where, self.found, self.expected = str(where), found, expected
        line = self.where + ("" if found is None else f": found {found}")
        line += "" if expected is None else f", expected {expected}"
        line = re.sub(" at 0x[0-9a-f]+", "", line)  # where Python has an object in memory
        super().__init__("".join(c if c.isprintable() else " " for c in line))


class _Short(reprlib.Repr):
    def repr_ndarray(self, value, level):
        return f"an array {value.shape} of {value.dtype}"


_short = _Short()
_short.maxstring = _short.maxother = 60
_short.maxlist = _short.maxtuple = _short.maxdict = 4
_short.maxlevel = 3


def show(value):
    """A short text for an untrusted value, to be put into a message: never long, never deep."""
    try:
        return _short.repr(value)
    except ValueError:  # Python refuses to write out an int of thousands of digits
        return f"a huge {type(value).__name__}"


def count(things, singular, plural=None):
    """ "3 videos" of a list of things, or of their number."""
    n = things if isinstance(things, int) else len(things)
    return f"{n} {singular if n == 1 else plural or singular + 's'}"


def some(names, most=5):
    """The first few of `names` for a message, and how many more there are."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def files_below(folder, unreadable=None):
    """Yields the paths of the files in a folder and its subfolders, links followed, no folder read
    twice. unreadable(OSError) is called for a subfolder that cannot be read; OSError for `folder`.
    """
    os.scandir(folder).close()
    seen = set()
    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        about = os.stat(place)
        if (about.st_dev, about.st_ino) in seen:  # a link to a folder around it
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders.sort()
        yield from (pathlib.Path(place, name) for name in names)


@contextlib.contextmanager
def open_file(path):
    """Open `path` for reading: gives (file, size in bytes). InputError for anything but a readable
    regular file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            kind = "a folder" if os.path.isdir(path) else "a device or pipe"
            raise InputError(path, kind, "a file")
        with open(path, "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise InputError(path, "no such file", "one") from None
    except PermissionError:
        raise InputError(path, "no permission to read", "a readable file") from None
    except OSError as error:
        raise InputError(path, error.strerror or error, "a readable file") from None


def load_pt(path):
    """The content of a file of torch.save, tensors on the CPU, through `weights_only=True`.

    Raises InputError for a file that asks for other classes (the message names them), that is
    broken (PyTorch does not compare the archive's checksums), or that holds a tensor larger than
    its storage (an expanded view: a few bytes that would become gigabytes on the first copy).
    """
    import torch

    with open_file(path) as (file, size):
        try:
            _check_archive(path, file, size)
            file.seek(0)
            with warnings.catch_warnings():
                # what cannot be read is reported below
                warnings.filterwarnings("ignore", "Detected pickle protocol")
                content = torch.load(file, map_location="cpu", weights_only=True)
        except InputError:
            raise
        except Exception as error:  # as for .npy: a program that somebody else wrote
            asked = re.search(r"GLOBAL (\S+)", str(error))
            broken = f"a broken file ({show(str(error))})"
            found = f"a file that asks for {asked[1]}" if asked else broken
            raise InputError(path, found, "tensors saved by torch.save") from None
    queue, seen = [content], set()
    while queue:
        value = queue.pop()
        if id(value) in seen:  # a list may hold itself
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            queue += value.values()
        elif isinstance(value, (list, tuple)):
            queue += value
        elif isinstance(value, torch.Tensor) and value.layout == torch.strided:
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                found = f"a tensor {tuple(value.shape)} larger than its storage"
                raise InputError(path, found, "a plain one")
    return content


def _check_archive(path, file, size):
    """InputError for a compressed archive, or one whose bytes do not fit its checksums."""
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        return  # the format of torch before 1.6, or no such file at all
    if sum(member.file_size for member in archive.infolist()) > size:
        raise InputError(path, "a compressed archive", "a file of torch.save")
    damaged = archive.testzip()
    if damaged:
        raise InputError(path, f"damaged bytes in {show(damaged)}", "a whole file: copy it again")


def load_json(path):
    """The content of a JSON file (UTF-8, or UTF-16/32 with a mark), of JSON lines (.jsonl) the list
    of them. A name given twice in an object is an error.

    NaN and Infinity, which Python's JSON admits, come through as floats: whoever reads the numbers
    knows the video they belong to and refuses them there. Raises InputError for broken, too deeply
    nested, wrongly encoded or huge files.
    """

    def once(pairs):
        content = dict(pairs)
        if len(content) != len(pairs):
            seen = set()
            name = next(k for k, _ in pairs if k in seen or seen.add(k))
            raise InputError(f"{path}: {name}", "this name twice in one object", "each once")
        return content

    with open_file(path) as (file, size):
        if size > MAX_JSON:
            raise InputError(path, f"{size} bytes", f"a JSON file of at most {MAX_JSON}")
        data = file.read()
    if str(path).lower().endswith(".jsonl"):
        lines = data.removeprefix(codecs.BOM_UTF8).splitlines()
        data = b"[" + b",\n".join(line for line in lines if line.strip()) + b"]"
    try:
        return json.loads(data, object_pairs_hook=once)
    except InputError:
        raise
    except json.JSONDecodeError as error:
        found = f"{error.msg} at line {error.lineno} column {error.colno}"
        raise InputError(path, found if data.strip() else "an empty file", "valid JSON") from None
    except RecursionError:
        raise InputError(path, "JSON nested too deeply", "a few levels") from None
    except UnicodeDecodeError as error:
        found = f"bytes at {error.start} that are not {error.encoding}"
        raise InputError(path, found, "UTF-8") from None
    except (ValueError, MemoryError) as error:
        raise InputError(path, show(str(error)), "valid JSON") from None


@contextlib.contextmanager
def write_atomically(path):
    """Write a file whole or not at all: gives a temporary path beside `path` (same suffix), to be
    written and closed.

    When the block ends well the temporary file is flushed to the disk and takes the final name;
    when it raises, Ctrl-C included, it is removed and whatever had the name before is untouched.
    InputError if the place cannot be written.
    """
    path = pathlib.Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise InputError(path, "a folder or device of that name", "a file to write")
    temporary = path.with_name(f".{file_name(path.stem)}.{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        temporary.open("xb").close()
    except OSError as error:
        raise InputError(path, error.strerror, "a folder to write in") from None
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(path, error.strerror, "room to write the file") from None
        raise


def process_lock(path):
    """A lock file that is free again when its process ends, however that ends."""
    # A soft lock would stay; older versions of filelock do not fall back to it.
    falls_back = "fallback_to_soft" in inspect.signature(filelock.FileLock.__init__).parameters
    return filelock.FileLock(path, **({"fallback_to_soft": False} if falls_back else {}))


# what a file system without locks answers
NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


def take_lock(lock, place, other="another command that writes there"):
    """Takes a lock of `process_lock` on what is written at `place`, where the file system has
    locks. InputError where another process has it, which is `other`, and where this user cannot.
    """
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(place, other, "one at a time") from None
    except (OSError, NotImplementedError) as error:  # the latter: ENOSYS, in older filelocks
        if getattr(error, "errno", errno.ENOSYS) not in NO_LOCKS:
            expected = "a file that this user can lock"
            raise InputError(lock.lock_file, error.strerror, expected) from None


@contextlib.contextmanager
def alone(place):
    """Only this process writes the file or folder at `place` during the block. What killed
    processes left of a file is removed. InputError where another process writes there.
    """
    place = pathlib.Path(os.path.realpath(place))
    if not place.parent.is_dir():
        raise InputError(place, os.strerror(errno.ENOENT), "a folder to write in")
    lock = process_lock(place.with_name(f".{file_name(place.name)}.lock"))
    take_lock(lock, place)
    try:
        sweep(place)
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file
            os.unlink(lock.lock_file)
        lock.release()


def sweep(path):
    """Removes what killed processes left of `path` while they wrote it with `write_atomically`.
    The caller holds the lock without which nobody writes there.
    """
    path = pathlib.Path(os.path.realpath(path))
    name, digits = glob.escape(file_name(path.stem)), "[0-9a-f]" * 8
    for left in path.parent.glob(f".{name}.{digits}{glob.escape(path.suffix)}"):
        left.unlink(missing_ok=True)


def file_name(name, suffix=""):
    """A file's name for a name from the data: at most 50 characters and the suffix, no two alike.

    A name that is short and has no sign that some system refuses stays as it is. Of any other the
    beginning stays, with _ for such signs, followed by ~ and 16 hex digits of its hash.
    """
    clean = "".join("_" if c in '/\\:*?"<>|~' or not c.isprintable() else c for c in name)
    if clean != name or len(name) > 50 or name.strip(". ") != name or not name:
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
        clean = f"{clean[:33].lstrip('. ')}~{digest[:16]}"
    return clean + suffix


def free_memory():
    """Bytes of memory that this process may take."""
    try:
        fields = dict(
            line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines()
        )
        free = int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        return (
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            if hasattr(os, "sysconf")
            else 8e9
        )
    try:  # a container's limit, if it has one
        limit, used = (
            int(pathlib.Path(f"/sys/fs/cgroup/memory.{name}").read_text())
            for name in ("max", "current")
        )
        return max(min(free, limit - used), 0)
    except (OSError, ValueError):
        return free


def fits(value, kind):
    """Whether a value from a file is of a kind: a type, whose floats may be whole numbers; [kind]
    for a list; a tuple of kinds for a list of that length; {str: kind}, or {name: kind} with these
    names at least, for a dict.
    """
    if isinstance(kind, list):
        return isinstance(value, list) and all(fits(item, kind[0]) for item in value)
    if isinstance(kind, tuple):
        return isinstance(value, list) and len(value) == len(kind) and all(map(fits, value, kind))
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            return False
        asked = dict.fromkeys(value, kind[str]) if str in kind else kind
        return all(name in value and fits(value[name], of) for name, of in asked.items())
    if isinstance(value, bool):
        return isinstance(value, kind) and not isinstance(0, kind)
    if isinstance(value, int):
        return abs(value) < 2**63 and (isinstance(0, kind) or isinstance(0.5, kind))
    return isinstance(value, kind)


def check_kinds(value, kinds, where):
    """InputError, which names the entry, unless a dict from a file has these {name: kind}, see
    `fits`.
    """
    expected = "what a run of this version writes; else train again"
    if not isinstance(value, dict):
        raise InputError(where, show(value), expected)
    for name, kind in kinds.items():
        if not fits(value, {name: kind}):
            raise InputError(f"{where}: {name}", show(value.get(name, "none")), expected)
