"""Every method of METHODS: it learns, depends on the seed alone, resumes, takes one stream; and a
new one needs a line.
"""

import dataclasses
import re

import commands
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from toy_sets import SETTINGS, streams, tiny

import localize
import opts
import run
from engine import run_folder
from engine.loop import Adam, TrainingSet, train_epoch
from engine.run_folder import RunFolder
from formats import clip_scores, detections
from formats.clip_scores import Record
from formats.files import InputError
from methods import METHODS

CLASSIFIERS = [name for name, method in METHODS.items() if method.classifies]


def made(name, dims=(6, 6), classes=2, seed=0, **changes):
    torch.manual_seed(seed)
    method = METHODS[name]
    return method(*dims, classes, method.Settings(**{**SETTINGS[name], **changes}))


def fitted(name, folder, videos=None, seed=0, resume=False, **changes):
    videos = tiny() if videos is None else videos
    run_of_it = RunFolder(folder, seed=seed, resume=resume)
    model = run_of_it.register(
        name, made(name, classes=len(videos[0].labels), seed=seed, **changes)
    )
    model.fit(TrainingSet(videos), run_of_it)
    run_of_it.close()
    return model


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def scores_of(model, v):
    return model.scores(*(x if x is None else torch.from_numpy(x) for x in (v.rgb, v.flow)))


def test_the_settings_above_are_those_of_all_methods():
    assert SETTINGS.keys() == METHODS.keys()
    assert all(method.name == name for name, method in METHODS.items())
    assert set(CLASSIFIERS) == {"untrimmednet", "wtalc"}


@pytest.mark.parametrize(
    "name, length",
    [("untrimmednet", {"untrimmednet_epochs": 20}), ("wtalc", {"wtalc_iterations": 150})],
)
def test_a_classifier_learns_which_class_a_video_has(name, length, tmp_path):
    videos = tiny()
    model = fitted(name, tmp_path, videos, **length)
    right = [scores_of(model, v)["video"].argmax().item() == v.labels.argmax() for v in videos]
    assert sum(right) > 0.9 * len(videos)


@pytest.mark.parametrize("name", METHODS)
def test_training_depends_on_the_seed_alone(name, tmp_path):
    first, again, other = (
        weights(fitted(name, tmp_path / str(k), seed=seed)) for k, seed in enumerate((0, 0, 1))
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("classes, n", [(1, 4), (1, 1), (4, 4), (2, 3)])
def test_few_videos_or_classes(name, classes, n, tmp_path):
    """One class; one video; a single video in every class, so no pairs; fewer videos than a
    batch.
    """
    model = fitted(name, tmp_path, tiny(n, classes))
    assert weights(model).isfinite().all()
    found = model.scores(torch.zeros(1, 6), torch.zeros(1, 6))
    assert all(values.shape in ((1,), (1, classes), (classes,)) for values in found.values())


@pytest.mark.parametrize("name", METHODS)
def test_the_bar_counts_epochs(name, tmp_path):
    class Bar:
        seen = []

        def update(self, losses):
            self.seen.append(losses)

    model, bar = made(name), Bar()
    model.fit(TrainingSet(tiny()), RunFolder(tmp_path), bar)
    assert len(bar.seen) == model.epochs
    assert [record["loss"] for record in run_folder.read_log(tmp_path)] == bar.seen


@pytest.mark.parametrize("name", METHODS)
def test_scores_say_what_the_method_says(name):
    model = made(name, classes=3)
    found = model.scores(*streams(9, 6, 6))
    assert ("video" in found) == model.classifies
    for key, values in found.items():
        assert tuple(values.shape) in ((9,), (9, 3), (3,)) and not values.requires_grad, key
    if model.classifies:
        assert found["video"].shape == (3,) and found["video"].sum().item() == pytest.approx(1)


@pytest.mark.parametrize("name", METHODS)
def test_a_video_that_is_not_finite_is_named(name, tmp_path):
    videos = tiny()
    videos[7].rgb[0] = np.nan
    with pytest.raises(InputError, match="v7"):
        fitted(name, tmp_path, videos)


# ------------------------------------------------------------------------------------------------
# one stream
@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize(
    "name, changes", [*((name, {}) for name in METHODS), ("em-mil", {"objective": "attention"})]
)
def test_one_stream_trains_scores_and_is_localized(name, changes, stream, tmp_path):
    videos = tiny()
    for v in videos:  # the stream that shows the class, under either name
        v.rgb, v.flow = (v.rgb, None) if stream == "rgb" else (None, v.rgb)
    dims = (6, None) if stream == "rgb" else (None, 6)
    model, folder = made(name, dims, **changes), RunFolder(tmp_path)
    before = weights(model)
    model.fit(TrainingSet(videos), folder)
    assert weights(model).isfinite().all() and not torch.equal(weights(model), before)
    scores = {key: values.numpy() for key, values in scores_of(model, videos[0]).items()}
    clips = len(videos[0].rgb if stream == "rgb" else videos[0].flow)
    record = Record("v0", clips * 2.0, videos[0].labels, {name: scores}, 2.0, 2.0)
    rows, counts = model.localize(
        record, ("jump", "run"), np.array([0.9, 0.1]), localize.Rule(gate=0.5)
    )
    assert counts["videos"] == 1 and len(rows) == counts["proposals"]
    assert all(scores[key].shape[0] in (clips, 2) for key in scores)


# ------------------------------------------------------------------------------------------------ a
# new method
class Toy(nn.Module):
    """A localizer of its own: one linear layer, trained on the labels of the bag, its sigmoid
    thresholded.
    """

    name, title, classifies = "toy", "Toy localizer", False

    @dataclasses.dataclass(frozen=True)
    class Settings:
        lr: float

    def __init__(self, rgb_dim, flow_dim, n_classes, settings):
        super().__init__()
        self.linear, self.settings, self.epochs = (
            nn.Linear(rgb_dim + flow_dim, n_classes),
            settings,
            2,
        )

    def forward(self, rgb, flow):
        return self.linear(torch.cat([rgb, flow], 1))

    def fit(self, train_set, run, bar=None):
        def loss(bags):
            return {
                "bce": sum(
                    nn.functional.binary_cross_entropy_with_logits(
                        self(bag.rgb, bag.flow), bag.y.expand(bag.length, -1)
                    )
                    for bag in bags
                )
            }

        optimizer = run.register("adam toy", Adam(self.parameters(), self.settings.lr))
        for epoch in run.epochs("toy", self.epochs):
            losses = train_epoch(train_set.shuffled(run.generator("toy", epoch)), loss, [optimizer])
            run.log(
                stage="toy",
                epoch=epoch + 1,
                loss=losses,
                videos=len(train_set),
                seconds=0.0,
                lr=self.settings.lr,
            )
            bar.update(losses)

    @torch.no_grad()
    def scores(self, rgb, flow):
        return {"clips": self(rgb, flow).sigmoid()}

    @classmethod
    def localize(cls, record, classes, video_scores, rule):
        return localize.detect(record, record.scores["toy"]["clips"], video_scores, classes, rule)


@pytest.fixture(scope="module")
def toy_run(tmp_path_factory):
    """(results, folder, what was printed) of a run with a method that is one class and one line."""
    folder = tmp_path_factory.mktemp("toy")
    flags = commands.write_set(folder / "set")
    at = flags.index("--method")
    flags[at : at + 3] = ["--method", "em-mil", "toy"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "toy", Toy)
        results = run.main([*flags, "--out", str(folder / "run")])
        yield results, folder / "run", (folder / "run/log.txt").read_text(encoding="utf-8")


def test_a_new_method_is_a_class_and_a_line(toy_run):
    results, folder, printed = toy_run
    rows = results["methods"]["toy"]["protocols"]["activitynet"]["map"]
    cells = re.search(r"^Toy localizer +([-\d. ]+)$", printed, re.M).group(1).split()
    assert cells[:7] == [f"{100 * m:.1f}" for m in rows]
    assert "Toy localizer" in (folder / "table.md").read_text() and "toy: loss bce" in printed
    assert {"toy", "adam toy"} <= run_folder.load_checkpoint(folder)["parts"].keys()
    assert [r["epoch"] for r in run_folder.read_log(folder) if r["stage"] == "toy"] == [1, 2]


def test_its_scores_and_detections_are_written(toy_run):
    results, folder, _ = toy_run
    records, classes = clip_scores.read(folder / "clip_scores.h5")
    assert len(records) == 4
    found = {}
    for record in records:
        clips = record.scores["toy"]["clips"]
        assert clips.shape == (len(record.scores["em-mil"]["q"]), 2)
        above = clips > clips.mean(axis=0)  # the preset's gamma is 0
        video = record.scores["untrimmednet"]["video"]
        for c, label in enumerate(classes):
            if video[c] >= 0.15:
                found[record.name, label] = len(localize.runs(above[:, c]))
    table = pd.read_csv(folder / "detections-toy.csv")
    assert table.groupby(["video", "label"]).size().to_dict() == {
        key: n for key, n in found.items() if n
    }
    assert len(table) == results["methods"]["toy"]["localization"]["proposals"] > 0
    assert len(detections.read_detections(folder / "detections-toy.json")) == len(table)
    with h5py.File(folder / "clip_scores.h5") as file:
        names = []
        file.visit(names.append)
    assert any(name.endswith("toy/clips") for name in names)


def test_a_run_with_it_is_evaluated_again_and_predicts(toy_run, tmp_path):
    results, folder, _ = toy_run
    again = run.main(["--evaluate", str(folder), "--out", str(tmp_path / "again")])
    assert again["methods"]["toy"]["protocols"] == results["methods"]["toy"]["protocols"]
    paths = folder, results["features"], tmp_path / "predicted"
    run.main(commands.words("--predict {} --features {} --out {}", *paths))
    assert (tmp_path / "predicted/detections-toy.csv").exists()


def test_no_method_is_trained_with_an_option_of_the_test():
    """--resume and reproduce.py let such an option change without training again."""
    for method in METHODS.values():
        fields = {field.name for field in dataclasses.fields(method.Settings)}
        assert fields - {"phases"} <= set(opts.names("train"))
