"""The structure of the package, read from its source: imports go down only, and nothing reads a pickle."""

import ast

import pytest

LAYERS = [
    {"errors"},
    {"storage"},
    {"weights"},
    {"tasks", "networks", "nn"},
    {"metrics", "shots"},
    {"protocols"},
    {"adaptation", "hypernets", "encoders", "priors"},
    {"data", "guidance", "exports"},
    {"objectives", "pipelines"},
    {"evaluation"},
    {"app"},
    {"cli"},
]
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}
APART = {"training", "reports"}  # recipes use them, the library does not


def imported(tree: ast.AST) -> set[str]:
    """The parts of weightgen that a module imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            found.add(f"{'.' * node.level}{node.module or ''}")
        elif isinstance(node, ast.ImportFrom) and node.module == "weightgen":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("weightgen."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("weightgen.")}
    return found


def upward(part: str, source: str) -> set[str]:
    """Imports in `source`, a module of `part`, that do not go down."""
    used = imported(ast.parse(source)) - {"__version__", part}
    if part in APART:
        return used - HEIGHT.keys() | used & {"cli"}
    return {name for name in used if HEIGHT.get(name, 99) >= HEIGHT[part]}


def pickles(source: str) -> list[str]:
    """What in `source` might run code that lies in a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [f"{node.value.id}.{node.attr}"]
        elif isinstance(node, ast.keyword) and not (
            isinstance(node.value, ast.Constant) and not node.value.value
        ):
            names = [node.arg or ""]
        else:
            names = []
        forbidden = {
            "torch.load",
            "torch.save",
            "pickle",
            "cloudpickle",
            "dill",
            "joblib",
            "marshal",
            "shelve",
        }
        found += [name for name in names if name in forbidden | {"allow_pickle", "read_pickle"}]
    return found


# The one file that may: an unpickler that can name nothing.
UNPICKLER = "data/few_shot_images/plain_pickle.py"


# The one file that calls torch.load, with weights_only=True.
TORCH_LOADER = "weightgen/encoders/packaged_towers.py"


def part_of(path, root):
    return path.relative_to(root / "weightgen").parts[0].removesuffix(".py")


def test_imports_go_down_only(root):
    sources = sorted((root / "weightgen").rglob("*.py"))
    assert len(sources) > 10
    for path in sources:
        part = part_of(path, root)
        if part not in ("__init__", "__main__"):
            assert part in HEIGHT or part in APART, f"{path} belongs to no layer: add it to LAYERS"
            assert not upward(part, path.read_text()), path


@pytest.mark.parametrize(
    ("part", "source"),
    [
        ("tasks", "from weightgen.networks.mlp import MLP"),
        ("tasks", "from weightgen.adaptation import gradient_descent"),
        ("networks", "def f():\n    import weightgen.pipelines.weight_pipeline"),
        ("priors", "from weightgen import WeightPipeline"),
        ("pipelines", "from weightgen.training.config import parse"),
        ("training", "from weightgen.cli import main"),
        ("priors", "from .. import hypernets"),
    ],
)
def test_upward_imports_are_seen(part, source):
    assert upward(part, source)
    assert not upward(
        "pipelines", "from weightgen import __version__\nfrom weightgen.priors import x\nimport torch"
    )


def test_nothing_reads_a_pickle(root):
    for folder in ("weightgen", "recipes", "data"):
        for path in (root / folder).rglob("*.py"):
            allowed = {UNPICKLER: ["pickle"], TORCH_LOADER: ["torch.load"]}
            assert pickles(path.read_text()) == allowed.get(str(path.relative_to(root)), []), path


def test_torch_load_admits_tensors_only(root):
    tree = ast.parse((root / TORCH_LOADER).read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (call,) = (node for node in calls if ast.unparse(node.func) == "torch.load")
    options = {each.arg: ast.unparse(each.value) for each in call.keywords}
    assert options["weights_only"] == "True" and None not in options


def test_the_one_unpickler_uses_no_other(root):
    tree = ast.parse((root / UNPICKLER).read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pickle"
    }
    assert used == {"Unpickler"}
    (unpickler,) = (
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base) == "pickle.Unpickler" for base in node.bases)
    )
    assert "super" not in ast.unparse(unpickler)  # whose find_class imports whatever a file names


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(p)",
        "import pickle",
        "from torch import load",
        "np.load(p, allow_pickle=True)",
        "from dill import x",
    ],
)
def test_pickles_are_seen(source):
    assert pickles(source)
    assert not pickles("import json\nnp.load(p, allow_pickle=False)\nfile.load()")
