"""Choices of a class in settings: `{_component_: weightgen.networks.CLIPAdapter, hidden_dim: 32}`. For recipes only.

A component must be a class of the kind that its place expects. Classes of weightgen, and the schedulers of diffusers, are always allowed;
others are imported with `trust_remote_code=true` only, because importing a file runs it.
"""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any, get_type_hints

from torch import nn

from weightgen.errors import InputError

COMPONENT = "_component_"

# Where the classes of each kind live that need no trust. Nothing there reads files or starts programs when it is built.
HOMES: dict[str, tuple[str, ...]] = {
    "network": ("weightgen.networks.", "torch.nn."),
    "hypernet": ("weightgen.hypernets.",),
    "denoiser": ("weightgen.priors.",),
    "scheduler": ("diffusers.", "weightgen.priors."),
    "encoder": ("weightgen.encoders.",),
    "tasks": ("weightgen.data.",),
    "augment": ("weightgen.data.few_shot.",),
    "score": ("weightgen.objectives.", "weightgen.reports."),
}

# Names of earlier versions, for "did you mean".
RENAMED = {
    "clip_norm": "max_grad_norm",
    "questions": "question_fraction",
    "point": "inner_variable",
    "validate_at": "validate_inner_steps",
    "min_steps": "min_inner_steps",
    "max_steps": "max_inner_steps",
    "least_steps": "min_inner_steps",
    "most_steps": "max_inner_steps",
    "least_shots": "min_shots",
    "least_queries": "min_queries",
    "local_features": "activation_features",
    "num_inference_steps": "sampling",
    "validate_samples": "sampling",
    "validate_support_scale": "sampling",
}


def spec(path: str, **arguments: Any) -> Any:
    """A field of a `Config` whose default is the class that `path` names, with these arguments."""
    return field(default_factory=lambda: {COMPONENT: path, **arguments})


def options(**values: Any) -> Any:
    """A field of a `Config` whose default is a dictionary of these values."""
    return field(default_factory=lambda: dict(values))


def pick(cfg: Any, *names: str) -> dict[str, Any]:
    """Some settings by name."""
    return {name: getattr(cfg, name) for name in names}


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to write in place of an unknown name: its new name if it is an old one, else the most similar."""
    names = list(known)
    new = RENAMED.get(name)
    if new is None and name.startswith(("least_", "most_")):
        new = name.replace("least_", "min_").replace("most_", "max_")
    close = [new] if new in names else difflib.get_close_matches(name, names, n=1)
    return f". Did you mean: {close[0]!r}?" if close else ""


def component(
    spec: Mapping[str, Any], kind: str | None = None, trust_remote_code: bool = False
) -> Callable[..., Any]:
    """Import what `spec["_component_"]` names, and check that it takes the other entries as arguments.

    Args:
        spec: `{"_component_": "package.module.Name", argument: value, ...}`, perhaps not complete.
        kind: a key of `HOMES`: what the place expects; by default any of them.
        trust_remote_code: whether to import modules that are not weightgen's.

    Returns:
        The class, or a function of weightgen that returns an instance.

    Raises:
        InputError: no such class, one of another kind, one of an author who is not trusted, or an argument that it does not have.
    """
    path = spec.get(COMPONENT)
    if not isinstance(path, str) or "." not in path:
        place = f"{kind}: " if kind else ""
        raise InputError(f"{place}expected {COMPONENT}: package.module.Name, got {dict(spec)}")
    target = _imported(path, kind, trust_remote_code)
    known = inspect.signature(target).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        for argument in spec:
            if argument not in known and argument != COMPONENT:
                raise InputError(f"{path} has no argument {argument!r}{suggestion(argument, known)}")
    return target


def build(
    spec: Mapping[str, Any],
    kind: str | None = None,
    /,
    trust_remote_code: bool = False,
    **extra: Any,
) -> Any:
    """Call what `spec` names with its arguments and those in `extra`, which follow from the data.

    Args:
        spec: as for `component`.
        kind: as for `component`.
        trust_remote_code: as for `component`.
        **extra: further arguments. One with the name `input_dim` is left out where the class has no such argument.

    Raises:
        InputError: see `component`; or an argument is given twice or not at all, or has a value that the class refuses.
    """
    if twice := sorted(spec.keys() & extra.keys()):
        raise InputError(f"{', '.join(twice)} of {spec.get(COMPONENT)} follows from the data: leave it out")
    target = component({**spec, **extra}, kind, trust_remote_code)
    arguments = {name: value for name, value in spec.items() if name != COMPONENT} | extra
    try:
        inspect.signature(target).bind(**arguments)
    except TypeError as error:
        raise InputError(f"{spec[COMPONENT]}: {error}") from error
    try:
        made = target(**arguments)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{spec[COMPONENT]} refuses {dict(spec)}: {str(error).partition(chr(10))[0]}"
        ) from error
    if kind == "scheduler" and not isinstance(made, _scheduler()):
        raise InputError(f"{spec[COMPONENT]} is not a scheduler of diffusers")
    return made


def build_part(cfg: Any, name: str, **extra: Any) -> Any:
    """Build the component in the setting `name` of `cfg`, whose name is its kind: a key of `HOMES`."""
    return build(getattr(cfg, name), name, trust_remote_code=cfg.trust_remote_code, **extra)


def _imported(path: str, kind: str | None, trust_remote_code: bool) -> Callable[..., Any]:
    homes = tuple(home for name, part in HOMES.items() if kind in (None, name) for home in part)
    if not path.startswith(homes) and not trust_remote_code:
        expected = f"a {kind}" if kind else "a component"
        raise InputError(
            f"{COMPONENT} must be the class of {expected}, in one of {', '.join(homes)}, got {path!r}: if it is "
            "your own, or you trust its author, write trust_remote_code=true"
        )
    home, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(home)
    except ImportError as error:
        raise InputError(f"{COMPONENT} {path!r}: {error}") from error
    if not hasattr(module, name):
        raise InputError(f"{home} has no {name!r}{suggestion(name, dir(module))}")
    target = getattr(module, name)
    if not _is_component(target, path, kind):
        raise InputError(f"{path} is not the class of a {kind or 'component'}, which {COMPONENT} must be")
    return target


def _is_component(target: Any, path: str, kind: str | None) -> bool:
    """Whether `target` is a class of the kind; or a function of weightgen that returns one, such as `weightgen.networks.shallow`."""
    if inspect.isfunction(target) and path.startswith("weightgen."):
        target = get_type_hints(target).get("return")
        if kind == "scheduler" and target is Any:  # diffusers is untyped; `build` looks at what comes
            return True
    if not inspect.isclass(target):
        return False
    if kind == "scheduler":
        return issubclass(target, _scheduler())
    if kind == "encoder":
        return all(hasattr(target, method) for method in ("encode_images", "encode_texts")) or issubclass(
            target, nn.Module
        )
    if kind == "tasks":
        return all(hasattr(target, method) for method in ("__len__", "__getitem__"))
    if kind == "augment":
        return hasattr(target, "change")
    return issubclass(target, nn.Module) or (kind is None and issubclass(target, _scheduler()))


def _scheduler() -> type:
    from diffusers import SchedulerMixin

    return SchedulerMixin
