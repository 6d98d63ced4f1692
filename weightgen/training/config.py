"""Settings of a recipe: a dataclass, then YAML files, then `key=value` on the command line. For recipes only.

    @dataclass
    class Config:
        dataset: str = MISSING  # must be given
        steps: int = 1000
        network: dict[str, Any] = field(default_factory=lambda: {"_component_": "weightgen.networks.MLP"})

    if __name__ == "__main__":
        with one_line_errors():
            main(parse(Config, __doc__))

A choice of class is a dotted path, so a new file is usable at once: `network._component_=my.module.Class`.
"""

import argparse
import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from weightgen.errors import InputError

T = TypeVar("T")

COMPONENT = "_component_"
TRUSTED = ("weightgen.", "torch.", "diffusers.")


def parse(schema: type[T], doc: str | None, argv: Sequence[str] | None = None) -> T:
    """Read the settings that `schema` declares.

    Args:
        schema: a dataclass; what has `omegaconf.MISSING` for a default must be given.
        doc: the text of `--help`, usually `__doc__`.
        argv: `[--config FILE.yaml]... [key=value]...`, by default the command line.

    Returns:
        An instance of `schema`.

    Raises:
        InputError: an unreadable file, an unknown key, a wrong type, or a missing value.
    """
    parser = _Parser(
        description=(doc or "") + "\n\nsettings:\n" + "\n".join(_describe(schema)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", action="append", default=[], metavar="FILE", help="YAML settings; repeatable"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="win over the files")
    args = parser.parse_intermixed_args(argv)

    config = OmegaConf.structured(schema)
    for path in args.config:
        config = _merge(config, _load(path), path)
    config = _merge(config, _from_words(schema, args.overrides), "command line")
    try:
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise InputError(f"missing settings: write {' '.join(f'{key}=...' for key in missing)}")
        return cast(T, OmegaConf.to_object(config))
    except OmegaConfBaseException as error:
        raise InputError(_first_line(error)) from error


def component(spec: Mapping[str, Any], trusted: tuple[str, ...] = TRUSTED) -> Callable[..., Any]:
    """Import what `spec["_component_"]` names, and check that it takes the other entries as arguments.

    Args:
        spec: `{"_component_": "package.module.Name", argument: value, ...}`, perhaps not complete.
        trusted: beginnings of the paths that may be imported.

    Returns:
        The class or function.

    Raises:
        InputError: no such thing, not to be trusted, or an argument that it does not have.
    """
    path = spec.get(COMPONENT)
    if not isinstance(path, str) or "." not in path:
        raise InputError(f"expected {COMPONENT}: package.module.Name, got {dict(spec)}")
    if not path.startswith(trusted):
        raise InputError(f"{COMPONENT} must begin with one of {', '.join(trusted)}, got {path!r}")
    home, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(home)
    except ModuleNotFoundError as error:
        raise InputError(f"{COMPONENT} {path!r}: {error}") from error
    if not hasattr(module, name):
        raise InputError(f"{home} has no {name!r}{_suggestion(name, dir(module))}")
    target: Callable[..., Any] = getattr(module, name)
    known = inspect.signature(target).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        for argument in spec:
            if argument not in known and argument != COMPONENT:
                raise InputError(f"{path} has no argument {argument!r}{_suggestion(argument, known)}")
    return target


def build(spec: Mapping[str, Any], trusted: tuple[str, ...] = TRUSTED, /, **extra: Any) -> Any:
    """Call what `spec` names with its arguments and those in `extra`, which follow from the data.

    Raises:
        InputError: see `component`; or an argument is given twice or not at all.
    """
    if twice := sorted(spec.keys() & extra.keys()):
        raise InputError(f"{', '.join(twice)} of {spec.get(COMPONENT)} follows from the data: leave it out")
    target = component({**spec, **extra}, trusted)
    arguments = {name: value for name, value in spec.items() if name != COMPONENT} | extra
    try:
        inspect.signature(target).bind(**arguments)
    except TypeError as error:
        raise InputError(f"{spec[COMPONENT]}: {error}") from error
    return target(**arguments)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; {Path(sys.argv[0]).name} --help lists what can be written")


def _describe(schema: Any, prefix: str = "") -> Iterable[str]:
    hints = get_type_hints(schema)
    for field in fields(schema):
        kind = hints[field.name]
        if is_dataclass(kind):
            yield from _describe(kind, f"{prefix}{field.name}.")
            continue
        default = field.default if field.default_factory is NO_DEFAULT else field.default_factory()
        shown = "(must be given)" if default == "???" else f"= {default!r}"
        yield f"  {prefix}{field.name}: {kind.__name__ if isinstance(kind, type) else kind} {shown}"


def _load(path: str) -> DictConfig:
    try:
        loaded = OmegaConf.load(path)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"cannot read the settings in {path}: {reason}") from error
    if not isinstance(loaded, DictConfig):
        raise InputError(f"{path} should hold key: value pairs, got a list")
    return loaded


def _from_words(schema: type[Any], words: Sequence[str]) -> DictConfig:
    config = OmegaConf.create()
    for word in words:
        key, equals, value = word.partition("=")
        if not (key and equals):
            raise InputError(f"expected key=value, got {word!r}")
        try:
            if _is_text(schema, key, value):  # a prompt is no YAML: "no" is not False, "a: b" no mapping
                OmegaConf.update(config, key, value.replace("${", r"\${"))
            else:
                config.merge_with_dotlist([word])
        except (OmegaConfBaseException, YAMLError, TypeError) as error:
            raise InputError(f"cannot understand {word!r}: {_first_line(error)}") from error
    return config


def _is_text(schema: Any, key: str, value: str) -> bool:
    for part in key.split("."):
        schema = get_type_hints(schema).get(part) if is_dataclass(schema) else None
    return schema in (str, Path) or (schema in (str | None, Path | None) and value != "null")


def _merge(config: DictConfig, extra: DictConfig, source: str) -> DictConfig:
    try:
        _forget_replaced(config, cast(dict[Any, Any], OmegaConf.to_container(extra)))
        return cast(DictConfig, OmegaConf.merge(config, extra))
    except (OmegaConfBaseException, TypeError) as error:
        key = getattr(error, "full_key", None)
        where = f"{source}, {key}" if key else source
        raise InputError(f"{where}: {_first_line(error)}; --help lists all settings") from error


def _forget_replaced(config: DictConfig, extra: dict[Any, Any], prefix: str = "") -> None:
    """Empty each component that `extra` replaces: the arguments of one class mean nothing to another."""
    for key, value in extra.items():
        path = f"{prefix}{key}"
        old = OmegaConf.select(config, path) if isinstance(value, dict) else None
        if isinstance(old, DictConfig):
            if value.get(COMPONENT, old.get(COMPONENT)) != old.get(COMPONENT):
                OmegaConf.update(config, path, {}, merge=False)
            else:
                _forget_replaced(config, value, f"{path}.")


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f". Did you mean: {close[0]!r}?" if close else ""


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
