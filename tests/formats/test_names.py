"""The same video and the same subset under other names."""

import pytest

from formats.names import (
    choose_test,
    choose_train,
    match_names,
    same_subset,
    subset_group,
    subset_of_file,
)


@pytest.mark.parametrize(
    "held",
    ["a_1", "v_a_1", "a_1.mp4", "v_a_1.mkv", "A_1", "V_A_1.AVI", " a_1 ", "a_1.webm", "v_A_1"]
    + ["Abuse/a_1.mp4", "/data/videos/a_1.mp4", "D:\\videos\\v_a_1.mp4", "x\\A_1"],
)
def test_a_video_is_found_under_any_form_of_its_name_in_both_directions(held):
    assert match_names(["a_1"], ["other", held]) == {"a_1": held}
    assert match_names([held], ["other", "a_1"]) == {held: "a_1"}


def test_other_videos_are_not_found():
    assert match_names(["a_1", "b.npy"], ["a_11", "va_1", "1", "b", "v_"]) == {}
    assert match_names([], ["a"]) == match_names(["a"], []) == {}


def test_the_equal_name_comes_first_and_the_order_is_that_of_the_wanted():
    held = ["a.mp4", "v_a", "A", "a", "c.avi"]
    assert list(match_names(["c", "a"], held).items()) == [("c", "c.avi"), ("a", "a")]
    assert match_names(["v_a", "a"], ["a"]) == {"a": "a"}  # v_a gets no other's features
    assert match_names(["a", "v_a"], ["a.mp4", "v_a.mp4"]) == {"a": "a.mp4", "v_a": "v_a.mp4"}
    both = match_names(["x/a", "y/a"], ["y/a.mp4", "x/a.mp4"])
    assert both == {"x/a": "x/a.mp4", "y/a": "y/a.mp4"}


def test_two_names_that_look_alike_match_nothing():
    assert match_names(["a"], ["a.mp4", "a.avi"]) == match_names(["a"], ["x/a", "y/a"]) == {}
    assert match_names(["A", "a"], ["a.mp4"]) == {"a": "a.mp4"}
    assert match_names(["AB", "ab"], ["Ab"]) == {}
    assert match_names(["a"], ["A", "a.mp4"]) == {"a": "a.mp4"}  # the suffix is the nearer form
    ids = ["v_C12345678", "C1234567890"]  # an id may itself begin with v_
    assert match_names(ids, ["v_v_C12345678.mp4", "C1234567890"]) == {
        "v_C12345678": "v_v_C12345678.mp4",
        "C1234567890": "C1234567890",
    }


VIDEOS = ["train_1", "train_2", "test_1", "test_11"]


@pytest.mark.parametrize("before", ["", "i3d-", "v_"])
@pytest.mark.parametrize("after", ["", "_i3d", "_clip", ".mp4_vggish", "_1_1", "feat"])
@pytest.mark.parametrize("surplus", [[], ["z_9"]])
def test_what_all_names_of_one_side_have_in_common_is_no_part_of_them(before, after, surplus):
    others = [f"{before}{name}{after}" for name in [*VIDEOS, *surplus]]
    expected = {name: f"{before}{name}{after}" for name in VIDEOS}
    assert match_names(VIDEOS, others) == expected
    assert match_names(others, VIDEOS) == {other: name for name, other in expected.items()}


def test_a_last_folder_that_all_names_share_is_no_part_of_them():
    held = ["train/a_1/i3d", "test/b_1/i3d", "c/i3d"]
    assert match_names(["a_1", "b_1", "z"], held) == {"a_1": held[0], "b_1": held[1]}
    assert match_names(["x/i3d", "y/i3d"], ["x/i3d", "y/i3d"]) == {n: n for n in ("x/i3d", "y/i3d")}
    assert match_names(["a"], ["a/i3d", "b/c3d"]) == {}


def test_each_side_may_have_its_own_addition(warned):
    matched = match_names(["clip_a.mp4", "clip_b.mp4"], ["x/a_i3d", "x/b_i3d", "x/c_i3d"], "f")
    assert matched == {"clip_a.mp4": "x/a_i3d", "clip_b.mp4": "x/b_i3d"}
    (line,) = warned()
    assert line.startswith("f: 2 of 2 videos") and "'clip_'" in line and "'_i3d'" in line
    assert match_names(["a", "b"], ["a", "b", "c"], "f") and warned() == []


@pytest.mark.parametrize(
    "wanted, held",
    [
        (["video_1", "video_2"], ["clip_1", "clip_2"]),  # both have a beginning: other videos
        (["video_1", "video_2"], ["video_1_i3d", "video_2"]),  # not all
        (["video_1", "video_1_i3d"], ["video_2_i3d", "video_3_i3d"]),  # some of the other, too
        (["a_b", "b_b"], ["a_i3d"]),  # one name has nothing in common
    ],
)
def test_other_additions_are_part_of_the_name(wanted, held):
    equal = {name: name for name in wanted if name in held}
    assert match_names(wanted, held) == equal


def test_an_addition_gives_no_video_away_twice():
    # without _x the last two are alike
    assert match_names(["a", "b"], ["a_x", "A/b_x", "B/b_x"]) == {"a": "a_x"}
    many = [f"video_{i}" for i in range(2000)]
    assert match_names(many, [f"{name}_i3d" for name in many[::-1]]) == {
        name: f"{name}_i3d" for name in many
    }


@pytest.mark.parametrize(
    "name, group",
    [
        ("train", "train"),
        ("Training", "train"),
        ("VAL", "validation"),
        ("validation ", "validation"),
        ("testing", "test"),
        ("Fold 1", "fold 1"),
        ("", ""),
    ],
)
def test_groups_of_subset_names(name, group):
    assert subset_group(name) == group


def test_subsets_by_exact_name_then_by_group():
    found = ["Train", "training", "val", "extra"]
    assert same_subset("training", found) == ["training"]
    assert same_subset("TRAIN", found) == ["Train", "training"]
    assert same_subset("validation", found) == ["val"] and same_subset("Extra", found) == ["extra"]
    assert same_subset("test", found) == []


@pytest.mark.parametrize(
    "found, annotated, train, test",
    [
        ("training validation testing", "training validation", "training", "validation"),
        ("Test Validation", "Test Validation", "Validation", "Test"),
        ("train val test", "train", "train", "test"),
        ("val validation", "val", "val", None),
        ("a b", "a b", None, None),
    ],
)
def test_subsets_that_auto_means(found, annotated, train, test):
    assert choose_train(found.split()) == train
    assert choose_test(found.split(), annotated.split(), [train or "x"]) == test


@pytest.mark.parametrize(
    "stem, subset",
    [
        ("anet_anno_val", "val"),
        ("Charades_v1_train", "train"),
        ("gt-Testing", "Testing"),
        ("train", "train"),
        ("latest", None),
        ("anet_anno_full", None),
        ("train_v2", None),
    ],
)
def test_a_subset_in_the_name_of_a_file(stem, subset):
    assert subset_of_file(stem) == subset
