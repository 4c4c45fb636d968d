"""What import-linter cannot say: the root, the subpackages' faces, what an import costs."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import rsacompare

ROOT = Path(rsacompare.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))


def test_no_module_imports_the_package_root():
    """`import rsacompare` inside would make the lazy public names part of a cycle."""
    guilty = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names if a.name == "rsacompare"]
            elif isinstance(node, ast.ImportFrom) and node.module == "rsacompare":
                names = [
                    alias.name
                    for alias in node.names
                    if importlib.util.find_spec(f"rsacompare.{alias.name}") is None
                ]
            guilty += [f"{path.relative_to(ROOT)}: {name}" for name in names]
    assert guilty == []


def test_subpackages_hold_a_docstring_only():
    for path in MODULES:
        if path.name == "__init__.py" and path.parent != ROOT:
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1, path
            assert isinstance(body[0], ast.Expr), path


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("tensorflow", "keras", "matplotlib", "xarray", "pandas", "numpy", "scipy", "numba")
    code = f"import sys, rsacompare; print([m for m in {heavy!r} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    assert run.stdout.strip() == "[]"


def test_typed_and_data_files_are_part_of_the_package():
    assert (ROOT / "py.typed").is_file()
    assert (ROOT / "datasets" / "registry.txt").is_file()
