"""The README is true: its Python blocks run, and it and docs/ name what `fnn.__all__` holds, no less and no more."""

import re
from pathlib import Path
from types import SimpleNamespace

import fnn

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def python_blocks(text):
    """The blocks fenced as python, each with the number of its first line."""
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, match.start(1)) + 1, match[1]


def test_blocks_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = list(python_blocks(README.read_text(encoding="utf-8")))
    assert blocks
    namespace = {"__name__": "__main__"}
    for line, block in blocks:
        exec(compile("\n" * (line - 1) + block, str(README), "exec"), namespace)


def test_every_public_name_is_documented():
    pages = [README, *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    named = set(re.findall(r"(?<![\w./-])fnn\.([a-zA-Z]\w*)", text))
    assert named == set(fnn.__all__) - {"__version__"} | {"patch"}  # python -m fnn.patch


def test_every_public_name_exists_and_explains_itself():
    for name in fnn.__all__:
        value = getattr(fnn, name)
        assert value.__doc__, f"fnn.{name} has no docstring"
        assert value.__doc__ != SimpleNamespace.__doc__, f"fnn.{name} has a docstring that is not its own"


def test_blocks_are_found():
    text = "a\n```python\nx = 1\n```\n```sh\nls\n```\n```python\ny = 2\nz = 3\n```\n"
    assert list(python_blocks(text)) == [(3, "x = 1\n"), (9, "y = 2\nz = 3\n")]
