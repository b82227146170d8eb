"""docs/elsewhere.md: the three files that work when copied alone, by the page's own examples."""

import re
import shutil
import subprocess
import sys

import pytest
from places import ROOT

PAGE = (ROOT / "docs" / "elsewhere.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.slow
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
PRINTED = ["[1. 0.]\n", "a 1.0 3.0 Jump 0.625\n", "torch.Size([50]) torch.Size([50, 20])\n"]


@pytest.mark.parametrize("example, printed", zip(EXAMPLES, PRINTED, strict=True))
def test_a_file_works_when_copied_alone(example, printed, tmp_path):
    (name,) = re.findall(r"^(?:import|from) (eval_detection|localize|model)", example, flags=re.M)
    shutil.copy(ROOT / f"{name}.py", tmp_path)
    code = example.replace("print(table)", "print(*table.iloc[0])")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == printed


def test_the_folder_works_on_the_path(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from model import EMMIL; import run"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
