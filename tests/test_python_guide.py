"""The Python of README, docs/api.md and the notebook, run as a reader would run it.

``OVVOL_WRITE_NOTEBOOK=1`` writes what the notebook's cells show into it.
"""

import ast
import base64
import json
import os
import re
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "tour.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all, so that runs that are asked for again are read."""
    return tmp_path_factory.mktemp("python")


@pytest.fixture(autouse=True)
def _there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def blocks(path):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / path).read_text(), re.MULTILINE | re.DOTALL)


def show(source, names):
    """Run a cell; what a notebook would show of its last line, by MIME type."""
    if source.startswith("%%writefile "):
        first, _, content = source.partition("\n")
        Path(first.split()[1]).write_text(content)
        return {}
    *body, last = ast.parse(source).body
    is_value = isinstance(last, ast.Expr)
    exec(compile(ast.Module(body if is_value else [*body, last], []), "cell", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if is_value else None
    if value is None:
        return {}
    if hasattr(value, "_repr_png_"):
        assert value._repr_png_().startswith(b"\x89PNG")
        return {"image/png": small(value)}
    html = {"text/html": value._repr_html_()} if hasattr(value, "_repr_html_") else {}
    return {**html, "text/plain": repr(value)}


def small(picture):
    """A Pillow image as PNG of few colours, in base64: a notebook is kept with the code."""
    file = BytesIO()
    picture.quantize(64).save(file, "png", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


@pytest.mark.parametrize("path", ["README.md", "docs/api.md"])
def test_the_blocks_run_in_order(path):
    names = {}
    for block in blocks(path):
        show(block, names)
    assert names["results"][0].metrics["corloc_any"] > 0.5


def test_the_notebook_runs_cell_by_cell():
    notebook = json.loads(NOTEBOOK.read_text())
    names, lines, first_picture = {}, 0, None
    for cell in (each for each in notebook["cells"] if each["cell_type"] == "code"):
        shown = show("".join(cell["source"]), names)
        lines += len([line for line in cell["source"] if line.strip()])
        if "image/png" in shown and first_picture is None:
            first_picture = lines
        output = {"output_type": "execute_result", "execution_count": None, "metadata": {}, "data": shown}
        cell["outputs"] = [output] if shown else []
    assert first_picture is not None and first_picture <= 9
    if os.environ.get("OVVOL_WRITE_NOTEBOOK"):
        NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def test_the_notebook_is_small_and_of_the_format():
    text = NOTEBOOK.read_text()
    notebook = json.loads(text)
    assert len(text) < 100_000
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


def test_every_function_of_the_api_is_in_its_guide():
    import ovvol_bench

    guide = (ROOT / "docs/api.md").read_text()
    modules = {name: ovvol_bench._MODULE_OF.get(name, "") for name in ovvol_bench.__all__}
    functions = [name for name in modules if "ovvol_bench.api" in modules[name] and name.islower()]
    assert [name for name in functions if f"ovb.{name}(" not in guide] == []
