"""The order of the folders: who imports whom, who sees the options, who needs torch."""

import ast

import pytest
from places import ROOT

# From the bottom up: a module imports from its floor and from those below.
FLOORS = (
    {"formats", "localize", "pseudo_labels", "opts"},
    {"eval_detection", "dataset", "engine", "extract"},
    {"model", "em_trainer", "report"},
    {"methods"},
    {"jobs"},
    {"run", "paper"},
    {"reproduce"},
    {"tools"},
)
FLOOR = {name: k for k, names in enumerate(FLOORS) for name in names}
SEE_OPTS = {"run", "jobs", "paper", "reproduce", "tools", "opts"}
ALONE = {"localize", "eval_detection"}  # can be copied; what its command needs is imported there
WITHOUT_TORCH = {"opts", "dataset", "localize", "eval_detection", "formats", "report"}


def room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path, top_only=False):
    """First names of all modules that the file at `path` imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


SOURCE = [*ROOT.glob("*.py"), *ROOT.glob("[!t.]*/*.py"), *ROOT.glob("tools/*.py")]


@pytest.mark.parametrize("path", sorted(SOURCE), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports(path):
    own = room(path)  # a new folder needs a floor
    found, at_once = set(imports(path)), set(imports(path, top_only=True))
    needed = at_once if own in ALONE else found
    assert not {name for name in needed if FLOOR.get(name, 0) > FLOOR[own]}, "an arrow goes up"
    assert "opts" not in found or own in SEE_OPTS
    assert own not in ALONE or not needed & FLOOR.keys()
    assert "torch" not in at_once or own not in WITHOUT_TORCH
    assert "matplotlib" not in at_once
    assert "matplotlib" not in found or path.stem == "figures"
