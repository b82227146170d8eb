"""The loop and the run's memory, on a network of a few weights: what is resumed, refused, written."""
import errno
import json
import os

import pytest
import torch
from torch import nn

from engine import loop as training
from formats.files import InputError
from engine.loop import CHECKPOINT, LOG, Interrupted, Session, load_checkpoint, train

VIDEOS = 5
X = torch.randn(VIDEOS, 4, generator=torch.Generator().manual_seed(0))


def fit(session, stages=(("first", 2), ("second", 3)), at_step=None, do=None, broken=None, bar=None):
    """Trains a linear layer behind dropout, its step also drawing from NumPy; returns the weights. do() is called at
    the at_step-th step of this call; video number `broken` makes the loss NaN."""
    torch.manual_seed(7)
    network = session.add("network", nn.Linear(4, 1))
    adam = session.add("adam", training.adam(network.parameters(), 1e-2))
    taken = 0

    def loss(batch, rng):
        nonlocal taken
        taken += 1
        if taken == at_step:
            do()
        i, = batch
        noise = float(rng.normal())
        x = nn.functional.dropout(X[i] + noise, 0.5)
        return {"square": (network(x) ** 2).sum() * (float("nan") if i == broken else 1),
                "level": network.bias.abs().sum()}

    for stage, epochs in stages:
        train(stage, epochs, session=session, optimisers=[adam], feed=iter, names=[f"video {i}" for i in range(VIDEOS)],
              batches=lambda rng: ([[int(i)] for i in rng.permutation(VIDEOS)], [1] * VIDEOS), loss=loss,
              facts={"fact": stage[0]}, bar=bar)
    return [p.detach().clone() for p in network.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def log(folder):
    lines = map(json.loads, (folder / LOG).read_text().splitlines())
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def interrupted(session, step, **kwargs):
    with pytest.raises(Interrupted) as stopped:
        fit(session, at_step=step, do=lambda: session.interrupt(15), **kwargs)
    assert (stopped.value.signum, stopped.value.folder) == (15, session.folder)
    session.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, weights) of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    session = Session(folder, seed=3, every=2)
    weights = fit(session)
    session.close()
    return folder, weights


# ------------------------------------------------------------------------------------------------ resuming
@pytest.mark.parametrize("step", range(1, 26))
def test_stopped_at_any_step_it_ends_in_the_same_bits(whole, tmp_path, step):
    interrupted(Session(tmp_path, seed=3, every=2), step)
    state = load_checkpoint(tmp_path)
    stage, epoch, within = state["position"]
    assert stage == ("first" if step <= 10 else "second")
    assert (0 if stage == "first" else 10) + epoch * 5 + within == step
    assert (state["partial"] is None) == (within == 0)
    session = Session(tmp_path, seed=3, every=2, resume=True)
    assert same(fit(session), whole[1]) and log(tmp_path) == log(whole[0])
    session.close()


def test_stopped_at_every_step(whole, tmp_path):
    for k in range(25):
        interrupted(Session(tmp_path, seed=3, resume=k > 0), 1)
    session = Session(tmp_path, seed=3, resume=True)
    assert same(fit(session), whole[1]) and log(tmp_path) == log(whole[0])
    session.close()


@pytest.mark.parametrize("step", [6, 9, 11, 13, 22, 25])
def test_dead_at_a_step_it_goes_on_from_the_last_checkpoint(whole, tmp_path, step):
    """Death leaves no checkpoint of its own, and lines in the log that come after the last one."""
    def die():
        raise KeyError
    session = Session(tmp_path, seed=3, every=2)
    with pytest.raises(KeyError):
        fit(session, at_step=step, do=die)
    session.close()
    lines = len(log(tmp_path))
    if step < 11:
        assert not (tmp_path / CHECKPOINT).exists() and lines == 1
    session = Session(tmp_path, seed=3, every=2, resume=True)
    assert len(log(tmp_path)) == {6: 0, 9: 0, 11: 2, 13: 2, 22: 4, 25: 4}[step] <= lines
    assert same(fit(session), whole[1]) and log(tmp_path) == log(whole[0])
    session.close()


def test_the_seed_decides(whole):
    assert same(fit(Session(seed=3)), whole[1])
    assert not same(fit(Session(seed=4)), whole[1])


def test_checkpoints_every_so_many_epochs_and_at_the_end_of_a_stage(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(Session, "save", lambda self: saved.append((self.stage, self.epoch, len(self.done))))
    fit(Session(every=2), stages=[("a", 5), ("b", 1), ("c", 4)])
    assert saved == [("a", 2, 0), ("a", 4, 0), ("a", 5, 1), ("b", 1, 2), ("c", 2, 2), ("c", 4, 3)]
    saved.clear()
    fit(Session(every=0), stages=[("a", 5), ("b", 1)])
    assert saved == [("a", 5, 1), ("b", 1, 2)]


def test_a_stage_that_is_done_is_not_trained_again(whole):
    session = Session()
    session.done = ["first", "second"]
    assert not same(fit(session, at_step=1, do=lambda: pytest.fail("trained")), whole[1])


def test_the_bar_counts_epochs():
    class Bar:
        n = 0

        def update(self):
            self.n += 1
    bar = Bar()
    fit(Session(), bar=bar)
    assert bar.n == 5


def test_a_line_of_the_log(whole):
    lines = log(whole[0])
    assert [(line["stage"], line["epoch"]) for line in lines] == [
        ("first", 1), ("first", 2), ("second", 1), ("second", 2), ("second", 3)]
    assert all(line["loss"].keys() == {"square", "level"} and line["videos"] == VIDEOS and line["lr"] == 1e-2
               and line["fact"] == line["stage"][0] for line in lines)
    assert json.loads((whole[0] / LOG).read_text().splitlines()[0])["seconds"] > 0


# ------------------------------------------------------------------------------------------------ signals
def test_outside_training_a_signal_ends_at_once(tmp_path):
    session = Session(tmp_path)
    with pytest.raises(Interrupted):
        session.interrupt(2)
    assert not issubclass(Interrupted, Exception), "or `except Exception` would take it for an error of its own"
    session.close()


def test_a_signal_while_a_stage_is_saved(whole, tmp_path, monkeypatch):
    """The checkpoint is written, and the next stage does not begin."""
    session, inner = Session(tmp_path, seed=3), Session.save

    def save(self):
        if self.done == ["first"]:
            self.interrupt(15)
        inner(self)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "save", save)
        with pytest.raises(Interrupted):
            fit(session)
    session.close()
    state = load_checkpoint(tmp_path)
    assert (state["done"], state["position"]) == (["first"], ["first", 2, 0]) and len(log(tmp_path)) == 2
    session = Session(tmp_path, seed=3, resume=True)
    assert same(fit(session), whole[1])
    session.close()


def test_a_second_signal_while_training_changes_nothing(whole, tmp_path):
    session = Session(tmp_path, seed=3)
    with pytest.raises(Interrupted):
        fit(session, at_step=3, do=lambda: (session.interrupt(15), session.interrupt(15)))
    session.close()
    assert load_checkpoint(tmp_path)["position"] == ["first", 0, 3]


# ------------------------------------------------------------------------------------------------ losses
def test_a_loss_that_is_not_finite_names_epoch_and_video(tmp_path):
    said = "training stage first, epoch 1: loss is nan on video 2, expected a finite number"
    with pytest.raises(InputError, match=said):
        fit(Session(seed=3), broken=2)


def test_it_names_the_video_after_a_resume_within_the_epoch_too(tmp_path):
    order = []
    session = Session(tmp_path, seed=3)
    with pytest.raises(Interrupted):
        fit(session, at_step=2, do=lambda: session.interrupt(15))
    session.close()
    probe = Session(seed=3).generator("first", 0)
    order = probe.permutation(VIDEOS)
    session = Session(tmp_path, seed=3, resume=True)
    with pytest.raises(InputError, match=f"epoch 1: loss is nan on video {order[3]},"):
        fit(session, broken=order[3])
    session.close()


def test_generators_depend_on_seed_stage_and_epoch_alone():
    def draws(seed, stage, epoch):
        rng = Session(seed=seed).generator(stage, epoch)
        return (*rng.random(2).tolist(), *torch.rand(2).tolist())
    first = draws(1, "a", 0)
    torch.rand(5)
    assert draws(1, "a", 0) == first
    others = [draws(2, "a", 0), draws(1, "b", 0), draws(1, "a", 1)]
    assert len({first, *others}) == 4 and len({x for d in (first, *others) for x in d}) == 16


# ------------------------------------------------------------------------------------------------ the folder
def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(Session(every=1))
    assert not list(tmp_path.iterdir())


def test_a_folder_has_one_session(tmp_path):
    session = Session(tmp_path)
    for resume in (False, True):
        with pytest.raises(InputError, match="in use by another run"):
            Session(tmp_path, resume=resume)
    session.close()
    Session(tmp_path).close()


def test_a_session_that_does_not_come_about_lets_go_of_the_folder(tmp_path):
    (tmp_path / CHECKPOINT).write_bytes(b"")
    for resume in (False, True):
        with pytest.raises(InputError, match=CHECKPOINT if resume else "found a checkpoint there"):
            Session(tmp_path, resume=resume)
    (tmp_path / CHECKPOINT).unlink()
    Session(tmp_path).close()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")
    monkeypatch.setattr(training.fcntl, "flock", flock)
    session = Session(tmp_path, seed=3)
    fit(session)
    session.close()
    assert load_checkpoint(tmp_path)["done"] == ["first", "second"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "evaluate").mkdir()                     # where another process may be writing
    left = [".checkpoint.0123abcd.pt", ".clip_scores.89abcdef.h5", "figures/.video_1-A.01234567.png"]
    kept = [".hidden", "table.md", "figures/video.png", "evaluate/.table.0123abcd.md"]
    for name in left + kept:
        (tmp_path / name).write_text("")
    Session(tmp_path).close()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        [*kept, ".lock", LOG])


def test_a_session_keeps_plain_values(tmp_path):
    session = Session(tmp_path, about={"options": {"lr": 0.1, "tious": (0.1, 0.5), "none": None}, "classes": ["a"]})
    session.memory["targets"] = {"values": torch.arange(3), "clips": [1, 2]}
    session.save()
    session.close()
    session = Session(tmp_path, resume=True)
    assert session.about == {"options": {"lr": 0.1, "tious": (0.1, 0.5), "none": None}, "classes": ["a"]}
    assert session.memory["targets"]["values"].tolist() == [0, 1, 2] and session.memory["targets"]["clips"] == [1, 2]
    session.close()


def test_parts_that_are_not_there_this_time_are_kept(tmp_path):
    session = Session(tmp_path, seed=3)
    fit(session)
    session.close()
    session = Session(tmp_path, seed=3, resume=True)
    session.add("another", nn.Linear(1, 1))
    session.save()
    session.close()
    assert load_checkpoint(tmp_path)["parts"].keys() == {"network", "adam", "another"}


@pytest.mark.parametrize("name, part", [
    ("network", lambda: nn.Linear(5, 1)), ("network", lambda: nn.Linear(4, 1, bias=False)),
    ("adam", lambda: training.adam(nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 1)).parameters(), 1))])
def test_a_state_that_does_not_fit(whole, tmp_path, name, part):
    (tmp_path / CHECKPOINT).write_bytes((whole[0] / CHECKPOINT).read_bytes())
    (tmp_path / LOG).write_bytes((whole[0] / LOG).read_bytes())
    session = Session(tmp_path, resume=True)
    with pytest.raises(InputError, match=f"{CHECKPOINT}: {name}: found the state of another network") as refused:
        session.add(name, part())
    assert "\n" not in str(refused.value)
    session.close()


def test_a_log_with_too_few_bytes(whole, tmp_path):
    (tmp_path / CHECKPOINT).write_bytes((whole[0] / CHECKPOINT).read_bytes())
    with pytest.raises(InputError, match=f"{LOG}: found 0 bytes, expected the {(whole[0] / LOG).stat().st_size} that"):
        Session(tmp_path, resume=True)


def test_a_log_that_cannot_be_written(tmp_path):
    session = Session(tmp_path, seed=3)
    (tmp_path / LOG).unlink()
    (tmp_path / LOG).symlink_to("/dev/full")
    with pytest.raises(InputError, match=f"{tmp_path / LOG}: found No space left on device, expected to write there"):
        fit(session)
    session.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_checkpoint_that_cannot_be_written(whole, tmp_path, monkeypatch, code, call):
    session = Session(tmp_path, seed=3)

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch, pytest.raises(InputError, match=f"{tmp_path / CHECKPOINT}: found") as refused:
        fit(session, at_step=12, do=lambda: patch.setattr(os, call, refuse))
    assert os.strerror(code) in str(refused.value)
    session.close()
    assert load_checkpoint(tmp_path)["done"] == ["first"] and not list(tmp_path.glob(".checkpoint*"))
    session = Session(tmp_path, seed=3, resume=True)
    assert same(fit(session), whole[1]) and log(tmp_path) == log(whole[0])
    session.close()


def test_the_checkpoint_takes_its_name_when_it_is_on_the_disk(tmp_path, monkeypatch):
    """Checkpoint and log are flushed to the disk, then the name changes hands."""
    calls = []
    inner = {"fsync": os.fsync, "replace": os.replace}
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))),
                                                 inner["fsync"](fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), inner["replace"](a, b)))
    session = Session(tmp_path)
    session.save()
    session.close()
    assert calls[-1] == "replace" and LOG in calls and any(name.startswith(".checkpoint.") for name in calls)
