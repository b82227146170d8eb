"""The pages on the paper name functions, options and files that exist."""

import importlib
import re

import pytest
from places import ROOT

import opts
import reproduce
from formats.files import InputError
from jobs import setup

PAGES = ["paper-and-code.md", "fidelity.md", "experiment.md"]


def words(page):
    """What the page puts between backquotes."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))


def test_functions_of_the_equations_exist():
    dotted = [
        word for word in words("paper-and-code.md") if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", word)
    ]
    names = [name for name in dotted if not name.endswith((".py", ".npy", ".md"))]
    assert {"pseudo_labels.class_labels", "localize.fuse", "em_trainer.fit"} <= set(names)
    for name in names:
        module, function = name.rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), function)), name


@pytest.mark.parametrize("page", PAGES)
def test_files_exist(page):
    named = {word.split()[0] for word in words(page)}
    files = {name for name in named if re.fullmatch(r"(\w+/)+[\w/.]*|\w+\.(py|md)", name)}
    assert files and not {name for name in files if not (ROOT / name).exists()}


@pytest.mark.parametrize("page", PAGES)
def test_options_exist(page, capsys):
    with pytest.raises(SystemExit):
        opts.parse(["--help"])
    with pytest.raises(SystemExit):
        reproduce.main(["--help"])
    with pytest.raises(SystemExit):
        reproduce.main(["compare", "--help"])
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    said, known = (
        set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", t))
        for t in (text, capsys.readouterr().out)
    )
    assert said and said <= known


@pytest.mark.parametrize(
    "name, value",
    [
        ("thumos14", dict(lam=0.8, gamma=0.15, lr=1e-4, boost=4.0, boost_from=31)),
        ("activitynet12", dict(lam=0.3, gamma=0.0, lr=1e-4, boost=1.0)),
    ],
)
def test_presets_are_the_papers_values(name, value):
    o = opts.resolve({"dataset": name})
    assert {key: getattr(o, key) for key in value} == value
    steps = [(row[0], row[1]) for row in o.phases]
    if name == "thumos14":
        assert steps[:4] == [("M", 10), ("E", 10), ("M", 10), ("E", 1)] and len(steps) == 38
    assert sum(epochs for _, epochs in steps) == 65 and setup.wanted(o)[-1] == "em-mil"


def test_recipe_release_changes_three_entries():
    paper, release = (
        opts.resolve({"dataset": "thumos14", "recipe": recipe}) for recipe in ("paper", "release")
    )
    assert set(opts.changed(paper, release, *opts.GROUPS)) == {
        "recipe",
        "boost_from",
        "lam",
        "test_gamma",
    }
    with pytest.raises(InputError, match="--recipe: found release with activitynet12"):
        opts.resolve({"dataset": "activitynet12", "recipe": "release"})
