"""What must hold for the package as a whole."""

import ast
import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import query2label
from query2label.config import load_config, recipe_names

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted((REPOSITORY / "src").rglob("*.py"))
# What torch.load(weights_only=True) raises has no other public name; the error alone can do nothing.
_ALLOWED_IMPORTS = {"src/query2label/models/weights.py": {"from pickle import UnpicklingError"}}


def _run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()


def test_public_names__all_resolve_and_are_listed() -> None:
    expected = {"Query2Label", "Predictor", "Prediction", "evaluate", "train", "load_dataset", "__version__"}
    assert set(query2label.__all__) == expected
    assert all(getattr(query2label, name) is not None for name in query2label.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Query3Label'"):
        query2label.Query3Label  # noqa: B018


def test_import__needs_no_torch_and_opens_no_socket() -> None:
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = refuse\n"
        "import query2label, query2label.bundle, query2label.preprocess, query2label.config\n"
        "print('torch' in sys.modules, 'timm' in sys.modules)"
    )
    assert _run(code) == "False False"


def test_command_line__help_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['q2l', '--help']\n"
        "from query2label.cli.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print('modules', [m for m in ('torch', 'torchvision', 'timm') if m in sys.modules])"
    )
    assert _run(code).endswith("modules []")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_source__opens_nothing_unsafely(path: Path) -> None:
    """No pickle, no unsafe torch.load, no eval: a model or a recipe can never run code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    allowed = _ALLOWED_IMPORTS.get(path.relative_to(REPOSITORY).as_posix(), set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and ast.unparse(node) not in allowed:
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "dill", "joblib", "shelve", "marshal"} & {
                n.partition(".")[0] for n in names
            }
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "os.system", "numpy.load", "yaml.load"}, called
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called == "torch.load":
                assert options.get("weights_only") == "True"
            if called == "np.load":
                assert options.get("allow_pickle") == "False"


def test_source__no_room_for_everything() -> None:
    forbidden = {"utils.py", "misc.py", "common.py", "helpers.py"}
    assert not [path for path in SOURCES if path.name in forbidden]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_benchmarks__find_all_that_they_import(path: Path) -> None:
    importlib.import_module(f"benchmarks.{path.stem}")


def test_versions__agree() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == query2label.__version__
    assert f"version: {query2label.__version__}" in (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {query2label.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", recipe_names())
def test_recipes__load_and_say_where_they_come_from(name: str) -> None:
    load_config(name)
    text = (REPOSITORY / "src/query2label/recipes" / f"{name}.toml").read_text(encoding="utf-8")
    header = text.split("\n[")[0]
    for word in ("Source:", "Expected:", "Hardware:", "Time:", "Command:"):
        assert word in header, f"the header of recipe {name} does not give {word}"


def test_documentation__configuration_page_is_generated_from_the_settings() -> None:
    written = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")
    generated = subprocess.run(
        [sys.executable, "-m", "query2label", "config", "--docs"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    assert written == generated, "run `make docs`"


def test_documentation__relative_links_lead_somewhere() -> None:
    import re

    pages = [
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        *sorted((REPOSITORY / "docs").glob("*.md")),
    ]
    for page in pages:
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
