"""Sizes that keep the house readable: recipes of a page, files of one idea, a root of few modules, no circle of imports."""

import ast

import pytest

RECIPE, LIBRARY, ROOT_MODULES = 120, 300, 9


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def modules(root):
    """Every module of weightgen: its dotted name and its path."""
    found = {}
    for path in (root / "weightgen").rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(tree, known):
    """The modules among `known` that a file imports, anywhere in it, but for type checking only."""
    typing = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    for node in typing:
        node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & known) or {node.module}
    return found & known


def circle(graph):
    """The modules of one circle, in order; empty if there is none."""
    done = set()

    def visit(name, path):
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := visit(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(graph) if (found := visit(name, []))), [])


def test_a_recipe_is_a_page(root):
    recipes = [path for path in (root / "recipes").rglob("*.py") if path.name != "__init__.py"]
    assert len(recipes) > 8
    long = {str(path.relative_to(root)): lines(path) for path in recipes if lines(path) > RECIPE}
    assert not long


def test_a_library_file_holds_one_idea(root):
    sizes = {name: lines(path) for name, path in modules(root).items()}
    assert not {name: size for name, size in sizes.items() if size > LIBRARY}
    assert sorted(sizes.values())[len(sizes) // 2] <= 150


def test_the_root_has_few_modules(root):
    found = [path.stem for path in (root / "weightgen").glob("*.py") if path.stem != "__init__"]
    assert len(found) <= ROOT_MODULES, sorted(found)


def test_no_file_imports_itself_by_way_of_others(root):
    known = modules(root)
    packages = {name for name, path in known.items() if path.name == "__init__.py"}
    graph = {
        name: {other for other in imports(ast.parse(path.read_text()), known.keys()) - {name}}
        for name, path in known.items()
        if name not in packages
    }
    # A package is what its modules are imported through; what counts is whether two files need each other.
    graph = {name: others - packages for name, others in graph.items()}
    assert not circle(graph), " -> ".join(circle(graph))


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c"]),
        ({"a": {"a"}}, ["a"]),
        ({"a": {"b", "c"}, "b": {"c"}, "c": set()}, []),
    ],
)
def test_circles_are_seen(graph, expected):
    assert circle(graph) == expected


def test_imports_are_seen():
    known = {"weightgen.weights", "weightgen.tasks", "weightgen.data", "weightgen.data.latents"}
    source = (
        "from typing import TYPE_CHECKING\nimport weightgen.weights\nfrom weightgen.data import latents\n"
        "if TYPE_CHECKING:\n    from weightgen.tasks import Examples\n"
    )
    assert imports(ast.parse(source), known) == {"weightgen.weights", "weightgen.data.latents"}
