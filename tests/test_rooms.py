"""Imports between the package's rooms go one way."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import duologue

PACKAGE = Path(duologue.__file__).parent
# What imports nothing of the package, and anything may import.
ALONE = {"ahead", "children", "errors", "gpus", "progress"}
# What a room may import beside itself and those.
MAY_IMPORT = {
    "bundled": set(),
    "recipes": set(),
    "formats": set(),
    "manifests": {"formats"},
    "synth": {"formats"},
    "tokenize": {"formats"},
    "pipelines": {"manifests", "synth", "tokenize", "formats"},
    "train": {"formats"},
    "generate": {"formats", "tokenize", "train.model"},
    "evaluate": {"formats", "tokenize", "generate"},
}
# The top of the house, which imports whatever its commands need.
CLI = {
    "cli",
    "cli_export",
    "cli_look",
    "cli_manifest",
    "cli_options",
    "cli_preflight",
    "cli_run",
    "cli_synth",
    "cli_tokenizer",
    "cli_train",
}
TOP = {*CLI, "demo", "program", "__main__", "__init__"}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the modules of the package that a piece of source imports, at its top or inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "duologue")
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            module = node.module or ""
            if module == "duologue":
                yield from (f"duologue.{alias.name}" for alias in node.names)
            elif module.startswith("duologue."):
                # What is imported may be a module itself.
                yield from (f"{module}.{alias.name}" for alias in node.names)


def allowed(room: str, module: str) -> bool:
    path = module.removeprefix("duologue.")
    names = {room, "__version__", *ALONE, *MAY_IMPORT[room]}
    return any(path == name or path.startswith(f"{name}.") for name in names)


def modules() -> list[Path]:
    return sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text("utf-8"))


def test_every_room_has_its_rule():
    rooms = {path.parts[0] for path in modules() if len(path.parts) > 1}
    assert rooms <= set(MAY_IMPORT)
    assert {path.stem for path in modules() if len(path.parts) == 1} <= TOP | ALONE


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_room_imports_only_what_lies_below_it(room):
    wrong = [
        f"{path} imports {module}"
        for path in modules()
        if path.parts[0] == room
        for module in imported(tree_of(path))
        if not allowed(room, module)
    ]
    assert not wrong


@pytest.mark.parametrize("name", sorted(ALONE))
def test_what_anything_may_import_stands_alone(name):
    assert not list(imported(tree_of(Path(f"{name}.py"))))


@pytest.mark.parametrize("name", sorted(CLI))
def test_command_line_imports_rooms_inside_its_commands(name):
    top = [node for node in tree_of(Path(f"{name}.py")).body if isinstance(node, ast.Import | ast.ImportFrom)]
    light = ("duologue.__version__", "duologue.errors.", "duologue.progress.", "duologue.cli_")
    assert not [module for module in imported(ast.Module(top, [])) if not module.startswith(light)]


def test_no_module_is_a_drawer_for_leftovers():
    drawers = {"utils", "util", "common", "helpers", "helper", "base", "misc"}
    assert not [path for path in modules() if drawers & {path.stem, *path.parent.parts}]


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import duologue.train.loop", "duologue.train.loop"),
        ("def f():\n    from duologue.train import model", "duologue.train.model"),
        ("from duologue import train", "duologue.train"),
    ],
)
def test_imports_are_seen_wherever_they_stand(source, module):
    assert list(imported(ast.parse(source))) == [module]
    assert not allowed("formats", module)
    assert allowed("generate", module) == module.startswith("duologue.train.model")
