"""Names of videos and of subsets: one rule for annotations, features, detections and scores.

The same video is `abc` in one file and `v_abc`, `abc.mp4` or `ABC` in another; W-TALC's
ActivityNet1.2 calls it `video_4` and has its YouTube id beside it. The same subset is `val`,
`validation` or `Validation`.
"""

import re
from collections import Counter

VIDEO_SUFFIX = re.compile(r"\.(mp4|avi|mkv|webm|mov|m4v|flv|mpe?g|wmv|3gp|ts)$", re.IGNORECASE)
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
def match_names(wanted, held, aliases=None):
    """{wanted name: held name} of the videos that both sides have, in the order of `wanted`.

    wanted: names as annotated; held: names in a file of features, detections or scores; aliases:
    {wanted name: its YouTube id, or None}. Equal names come first, then the alias, then names that
    are equal but for blanks around them and a video's file suffix, then but for the prefix `v_`,
    then but for letter case. A held name goes to one video at most, and where two names of a side
    look alike at some step, that step matches neither.
    """
    aliases = aliases or {}
    matched, wanted = {}, list(dict.fromkeys(wanted))
    held = dict.fromkeys(held)
    for of_wanted, of_held in _STEPS:
        for called in (str, lambda name: aliases.get(name)):
            left = [name for name in wanted if name not in matched and called(name)]
            theirs = _by_key(of_held, held)
            ours = _by_key(lambda name: of_wanted(called(name)), left)
            for key in ours.keys() & theirs.keys():
                matched[ours[key]] = theirs[key]
                del held[theirs[key]]
    return {name: matched[name] for name in wanted if name in matched}


def _by_key(key, names):
    """{key: name}, of the keys that one name alone has."""
    keys = {name: key(name) for name in names}
    times = Counter(keys.values())
    return {key: name for name, key in keys.items() if times[key] == 1}


def _plain(name):
    return VIDEO_SUFFIX.sub("", name.strip())


def _bare(name):
    return _plain(name).removeprefix("v_")


def _lower(key):
    return lambda name: key(name.lower())


_ALIKE = [(_plain, _plain), (_plain, _bare), (_bare, _plain)]
_STEPS = [(str, str), *_ALIKE, *((_lower(a), _lower(b)) for a, b in _ALIKE)]


# ---- subsets
def subset_group(name):
    """What a subset's name means: "train", "validation" or "test" for their usual names in
    any case, else the name in lower case without blanks around it."""
    low = str(name).strip().lower()
    return SUBSETS.get(low, low)


def same_subset(asked, found):
    """The names in `found` that `asked` means: exactly that name if it is there, else all
    of its group; a list."""
    found = list(dict.fromkeys(found))
    return (
        [asked]
        if asked in found
        else [name for name in found if subset_group(name) == subset_group(asked)]
    )


def choose_train(found):
    """What "auto" trains on: the training subset, else (THUMOS14) the validation subset;
    None where there is neither."""
    return _first_of(("train", "validation"), found)


def choose_test(found, annotated, train=None):
    """What "auto" tests on: the test subset, else the validation subset, that is not `train`.

    Of the two, one with segments goes first (ActivityNet's testing videos have none).
    found: names of all subsets; annotated: names of those with segments. None where there is
    neither.
    """
    others = [name for name in found if train is None or subset_group(name) != subset_group(train)]
    return _first_of(
        ("test", "validation"), [name for name in others if name in set(annotated)]
    ) or _first_of(("test", "validation"), others)


def subset_of_file(stem):
    """The subset that a file's name without suffix ends with (`anet_anno_val`,
    `Charades_v1_train`), or None."""
    last = re.split(r"[^a-zA-Z]+", stem)[-1]
    return last if last.lower() in SUBSETS else None


def _first_of(groups, names):
    return next((name for group in groups for name in names if subset_group(name) == group), None)


# ---- text
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
