"""Names of videos and of subsets: one rule for annotations, features, detections and scores.

The same video is `abc` in one file and `v_abc`, `abc.mp4`, `folder/abc`, `ABC` or, like all others
there, `abc_i3d` in another. The same subset is `val`, `validation` or `Validation`.
"""

import itertools
import os
import re
from collections import Counter

from formats.program import log

VIDEO_SUFFIXES = "3gp avi flv m4v mkv mov mp4 mpeg mpg ogv ts webm wmv".split()
VIDEO_SUFFIX = re.compile(rf"\.({'|'.join(VIDEO_SUFFIXES)})$", re.IGNORECASE)
SUBSETS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


# ---- videos
def match_names(wanted, held, source=None):
    """{wanted name: held name} of the videos that both sides have, in the order of `wanted`.

    wanted: names as annotated; held: names in a file of features, detections or scores. Equal names
    come first, then names that are equal but for blanks around them and a video's file suffix, then
    but for folders, then but for the prefix `v_`, then but for letter case, then but for what all
    names of one side begin or end with, and none of the other (`_i3d`). A last folder that all held
    names share (`VIDEO/i3d`) is no part of them. A held name goes to one video at most, and where
    two names of a side look alike at some step, that step matches neither.
    source: what holds the names, for a warning where they differ.
    """
    wanted, held, matched = dict.fromkeys(wanted), dict.fromkeys(held), {}
    everybody = list(wanted), list(held)

    def match(of_wanted, of_held):
        ours, theirs = _by_key(of_wanted, wanted), _by_key(of_held, held)
        for key in [key for key in ours if key in theirs]:
            matched[ours[key]] = theirs[key]
            del wanted[ours[key]], held[theirs[key]]

    for of_wanted, of_held in _STEPS:
        match(of_wanted, of_held)
    if len({_stem(name) for name in held}) == 1:
        match(_stem, lambda name: _stem(_plain(name).rpartition("/")[0]))
    common = ""
    if wanted and held:
        before, after = _common(*everybody, wanted, held)
        match(*(lambda name: _cut(_stem(name), before, after) for _ in "ab"))
        common = "".join(
            f"; all names of one side {where} with {part!r}"
            for where, part in (("begin", before), ("end", after))
            if part
        )
    other = [name for name in everybody[0] if matched.get(name, name) != name]
    if other and source is not None:
        log.warning(
            f"{source}: {len(other)} of {len(matched)} videos have another form of their "
            f"name, such as {matched[other[0]]} for {other[0]}{common}"
        )
    return {name: matched[name] for name in everybody[0] if name in matched}


def _by_key(key, names):
    """{key: name}, of the keys that one name alone has."""
    keys = {name: key(name) for name in names}
    times = Counter(keys.values())
    return {key: name for name, key in keys.items() if times[key] == 1}


def _plain(name):
    return VIDEO_SUFFIX.sub("", name.strip().replace("\\", "/"))


def _stem(name):
    return _plain(name).rpartition("/")[2]


def _bare(name):
    return _stem(name).removeprefix("v_")


def _lower(key):
    return lambda name: key(name.lower())


_ALIKE = [(_plain, _plain), (_stem, _stem), (_stem, _bare), (_bare, _stem)]
_STEPS = [(str, str), *_ALIKE, *((_lower(a), _lower(b)) for a, b in _ALIKE)]


def _common(all_wanted, all_held, wanted, held):
    """(beginning, end) that all names of one side have and none of the other, so that without them
    most names are equal; "" for none."""
    sides = [[_stem(name) for name in names] for names in (all_wanted, all_held)]
    turned = [[name[::-1] for name in names] for names in sides]
    before, after = _parts(*sides), [part[::-1] for part in _parts(*turned)]
    ours, theirs = ([_stem(name) for name in names] for names in (wanted, held))

    def equal(parts):
        cut = [{_cut(name, *parts) for name in names} for names in (ours, theirs)]
        return len(cut[0] & cut[1]), -len(parts[0] + parts[1])

    return max(itertools.product(before, after), key=equal)


def _parts(*sides):
    """Beginnings that all names of one side have and none of the other: up to a sign, or as long as
    it can be. "" is one."""
    found = {""}
    for names, others in (sides, sides[::-1]):
        whole = os.path.commonprefix(names) if len(names) > 1 else ""
        cuts = [at.end() for at in re.finditer(r"[\W_]+", whole)] + [len(whole)]
        parts = {whole[:cut] for cut in cuts}
        found |= {part for part in parts if not any(name.startswith(part) for name in others)}
    return sorted(found)


def _cut(name, before, after):
    return name.removeprefix(before).removesuffix(after)


# ---- subsets
def subset_group(name):
    """What a subset's name means: "train", "validation" or "test" for their usual names in
    any case, else the name in lower case without blanks around it."""
    low = str(name).strip().lower()
    return SUBSETS.get(low, low)


def same_subset(asked, found):
    """The names in `found` that `asked` means: exactly that name if it is there, else all
    of its group; a list."""
    found, group = list(dict.fromkeys(found)), subset_group(asked)
    return [asked] if asked in found else [name for name in found if subset_group(name) == group]


def choose_train(found):
    """What "auto" trains on: the training subset, else (THUMOS14) the validation subset;
    None where there is neither."""
    return _first_of(("train", "validation"), found)


def choose_test(found, annotated, train=()):
    """What "auto" tests on: the test subset, else the validation subset, that is not among `train`.

    Of the two, one with segments goes first (ActivityNet's testing videos have none).
    found: names of all subsets; annotated: names of those with segments. None where there is
    neither.
    """
    groups = {subset_group(name) for name in train}
    others = [name for name in found if subset_group(name) not in groups]
    first = _first_of(("test", "validation"), [name for name in others if name in annotated])
    return first or _first_of(("test", "validation"), others)


def subset_of_file(stem):
    """The subset that a file's name without suffix ends with (`anet_anno_val`,
    `Charades_v1_train`), or None."""
    last = re.split(r"[^a-zA-Z]+", stem)[-1]
    return last if last.lower() in SUBSETS else None


def _first_of(groups, names):
    return next((name for group in groups for name in names if subset_group(name) == group), None)


# ---- text
def plain_label(label):
    """A class name without case, blanks and signs, to notice names that differ by these alone."""
    return "".join(filter(str.isalnum, label.casefold())) or label


def decoded(value):
    """A name from a pickled or binary file as text: UTF-8 if its bytes are, else Latin-1;
    other types are unchanged.

    Python 2 pickled text as bytes, which the reader returns as Latin-1 text: where these
    bytes are UTF-8, they are read as such.
    """
    try:
        data = value.encode("latin1") if isinstance(value, str) else value
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin1")
    except (AttributeError, UnicodeEncodeError):  # no text, or text beyond Latin-1
        return value
