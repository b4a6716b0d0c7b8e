"""README and docs/ are true: their Python blocks run, and they name what `fnn.__all__` holds, no less and no more."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

import fnn
from interpreter import python

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def python_blocks(text):
    """Return what is fenced as python as one program, whose lines have the numbers that they have in the text."""
    program, inside = [], False
    for line in text.splitlines():
        inside = line != "```" if inside else line == "```python"
        program.append(line if inside and line != "```python" else "")
    return "\n".join(program)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "\n```python\n" in page.read_text(encoding="utf-8")], ids=lambda page: page.name
)
def test_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = tmp_path / f"{page.stem}.py"
    program.write_text(python_blocks(page.read_text(encoding="utf-8")), encoding="utf-8")
    done = python(program)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_documented():
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?<![\w./-])fnn\.([a-zA-Z]\w*)", text))
    assert named == set(fnn.__all__) - {"__version__"} | {"patch"}  # python -m fnn.patch


def test_every_public_name_exists_and_explains_itself():
    for name in fnn.__all__:
        value = getattr(fnn, name)
        assert value.__doc__, f"fnn.{name} has no docstring"
        assert value.__doc__ != SimpleNamespace.__doc__, f"fnn.{name} has a docstring that is not its own"


def test_blocks_are_found():
    text = "a\n```python\nx = 1\n```\n```sh\nls\n```\n```python\ny = 2\nz = 3\n```\nb"
    assert python_blocks(text).split("\n") == ["", "", "x = 1", "", "", "", "", "", "y = 2", "z = 3", "", ""]
