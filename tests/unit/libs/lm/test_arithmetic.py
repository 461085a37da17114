import ast
import subprocess
import sys

import pytest

from libs.lm import arithmetic

THEIRS = {"torch", "transformers", "numpy"} | sys.stdlib_module_names


@pytest.mark.parametrize("name", arithmetic.MODULES)
def test_a_module_that_travels_needs_only_what_travels_with_it(name):
    source = (arithmetic.FILES[f"libs/lm/{name}.py"]).read_text("utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= THEIRS
        elif isinstance(node, ast.ImportFrom):
            ours = [f"libs.lm.{each}" for each in arithmetic.MODULES]
            assert node.module.partition(".")[0] in THEIRS or node.module in ours


def test_the_copies_are_imported_where_nothing_else_of_ours_is(tmp_path):
    for name, source in arithmetic.FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(source.read_bytes())
    program = f"from libs.lm import {', '.join(arithmetic.MODULES)}; print(scoring.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == str(tmp_path / "libs/lm/scoring.py"), done.stderr
