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
    ["a_1", "v_a_1", "a_1.mp4", "v_a_1.mkv", "A_1", "V_A_1.AVI", " a_1 ", "a_1.webm", "v_A_1"],
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


def test_two_names_that_look_alike_match_nothing():
    assert match_names(["a"], ["a.mp4", "a.avi"]) == {}
    assert match_names(["A", "a"], ["a.mp4"]) == {"a": "a.mp4"}
    assert match_names(["AB", "ab"], ["Ab"]) == {}
    assert match_names(["a"], ["A", "a.mp4"]) == {"a": "a.mp4"}  # the suffix is the nearer form


def test_youtube_ids():
    aliases = {"video_4": "v_C12345678", "video_7": "C1234567890", "video_9": None}
    wanted = ["video_4", "video_7", "video_9", "not_listed"]
    assert match_names(wanted, ["v_C12345678", "v_C1234567890"], aliases) == {
        "video_4": "v_C12345678",
        "video_7": "v_C1234567890",
    }  # an id may itself begin with v_
    assert match_names(wanted, ["v_v_C12345678.mp4", "C1234567890"], aliases) == {
        "video_4": "v_v_C12345678.mp4",
        "video_7": "C1234567890",
    }
    assert match_names(["video_4"], ["video_4", "v_C12345678"], aliases) == {"video_4": "video_4"}


@pytest.mark.parametrize(
    "name, group",
    [
        ("train", "train"),
        ("Training", "train"),
        ("VAL", "validation"),
        ("validation ", "validation"),
        ("testing", "test"),
        ("Test", "test"),
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
        (
            ["training", "validation", "testing"],
            ["training", "validation"],
            "training",
            "validation",
        ),
        (["Test", "Validation"], ["Test", "Validation"], "Validation", "Test"),
        (["train", "val", "test"], ["train"], "train", "test"),
        (["val", "validation"], ["val"], "val", None),
        (["a", "b"], ["a", "b"], None, None),
    ],
)
def test_subsets_chosen_by_what_the_dialects_mean(found, annotated, train, test):
    assert choose_train(found) == train
    assert choose_test(found, annotated, train) == test


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
