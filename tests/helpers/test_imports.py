"""Who imports whom, and where torch and matplotlib are allowed: the map of the code, kept true."""

import ast

import pytest
from places import ROOT

FOLDERS = ("formats", "engine", "engine/jobs", "baselines", "report", "paper", "extract")
MODULES = {
    path.relative_to(ROOT)
    .with_suffix("")
    .as_posix()
    .replace("/", ".")
    .removesuffix(".__init__"): path
    for place in (".", *FOLDERS)
    for path in (ROOT / place).glob("*.py")
}

ALLOWED = {
    "opts": set(),
    "pseudo_labels": set(),
    "localize": set(),
    "paper.published": set(),
    "engine.cpu": set(),
    "eval_detection": {"formats"},
    "model": {"engine.cpu"},
    "em_trainer": {"engine", "pseudo_labels", "formats.files"},
    "dataset": {"formats", "localize"},
}
BY_FOLDER = {
    "formats": {"formats"},
    "engine": {"engine", "formats.files"},
    "baselines": {
        "baselines",
        "engine",
        "localize",
        "pseudo_labels",
        "em_trainer",
        "model",
        "eval_detection",
        "formats.clip_scores",
        "formats.files",
    },
    "report": {"report", "formats.files", "localize", "eval_detection"},
    "extract": {"extract", "formats.files", "formats.features"},
}
PACKAGES = {folder.replace("/", ".") for folder in FOLDERS}
FREE = {
    "run",
    "reproduce",
    # the chapters of run.py
    *(name for name in MODULES if name.startswith("engine.jobs.")),
    *(name for name in MODULES if name.split(".")[0] == "paper" and name != "paper.published"),
}
WITHOUT_TORCH = {
    "opts",
    "dataset",
    "localize",
    "eval_detection",
    *(name for name in MODULES if name.split(".")[0] in ("formats", "report")),
}  # load_pt imports it when called


def imports(path, top_only=False):
    """Dotted names of all modules that the file at `path` imports."""
    tree = ast.parse(path.read_text())
    names = set()
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def ours(path):
    return {name for name in imports(path) if name in MODULES and name not in PACKAGES}


def allowed(name, imported):
    rules = ALLOWED.get(name) or BY_FOLDER.get(name.split(".")[0], set())
    return imported in rules or imported.split(".")[0] in rules


@pytest.mark.parametrize("module", sorted(set(MODULES) - FREE - PACKAGES))
def test_imports_of_ours(module):
    assert {name for name in ours(MODULES[module]) if not allowed(module, name)} == set()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nobody_imports_run_but_the_papers_pages_and_nobody_the_tools(module):
    found = imports(MODULES[module])
    assert "run" not in found or module in FREE
    assert "reproduce" not in found
    assert not found & {path.stem for path in (ROOT / "tools").glob("*.py")}


@pytest.mark.parametrize("module", sorted(WITHOUT_TORCH))
def test_no_torch(module):
    assert not {
        name for name in imports(MODULES[module], top_only=True) if name.split(".")[0] == "torch"
    }


def test_matplotlib_is_loaded_in_one_file_and_only_when_drawing():
    users = [
        m
        for m in sorted(MODULES)
        if any(n.split(".")[0] == "matplotlib" for n in imports(MODULES[m]))
    ]
    assert users == ["report.figures"]
    assert not any(
        n.startswith("matplotlib") for n in imports(MODULES["report.figures"], top_only=True)
    )
