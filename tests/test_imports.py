"""The graph of who imports whom, and where torch and matplotlib are allowed."""
import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = {path.stem for path in ROOT.glob("*.py")}

ALLOWED = {
    "opts": set(), "linear": set(), "model": {"linear"}, "pseudo_labels": set(), "localize": set(), "safe_load": set(),
    "annotations": {"safe_load"}, "dataset": {"annotations", "safe_load"}, "demo_data": {"safe_load"},
    "score_file": {"safe_load"}, "eval_detection": {"annotations", "safe_load"}, "report": {"safe_load"},
    "training": {"safe_load"}, "em_trainer": {"pseudo_labels", "training"},
    "video_classifier": {"pseudo_labels", "safe_load", "training"},
}
FREE = {"run", "reproduce"}                                 # run knows all others, reproduce knows run
WITHOUT_TORCH = {"opts", "safe_load", "annotations", "dataset", "demo_data", "score_file", "localize", "eval_detection",
                 "report"}                                  # load_pt imports it when called


def imports(path, top_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names


def test_every_module_is_in_the_graph():
    assert MODULES == set(ALLOWED) | FREE


@pytest.mark.parametrize("module", sorted(MODULES - FREE))
def test_imports_of_ours(module):
    assert imports(ROOT / f"{module}.py") & MODULES <= ALLOWED[module]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_nobody_imports_run_but_reproduce_and_nobody_the_tools(module):
    found = imports(ROOT / f"{module}.py")
    assert ("run" not in found or module == "reproduce") and "reproduce" not in found
    assert not found & {path.stem for path in (ROOT / "tools").glob("*.py")}


@pytest.mark.parametrize("module", sorted(WITHOUT_TORCH))
def test_no_torch(module):
    assert "torch" not in imports(ROOT / f"{module}.py", top_only=True)


def test_matplotlib_is_reports_and_loaded_when_drawing():
    assert [m for m in sorted(MODULES) if "matplotlib" in imports(ROOT / f"{m}.py")] == ["report"]
    assert "matplotlib" not in imports(ROOT / "report.py", top_only=True)
