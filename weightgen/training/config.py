"""Settings of a recipe: a dataclass, then YAML files, then `key=value` on the command line. For recipes only.

    @dataclass
    class Config:
        dataset: str = MISSING  # must be given
        steps: int = 1000
        network: dict[str, Any] = training.spec("weightgen.networks.MLP")

    if __name__ == "__main__":
        training.run(main, Config, __doc__)

A choice of class is a dotted path, so a new file is usable at once: `network._component_=my.module.Class trust_remote_code=true`.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, get_type_hints

from weightgen.errors import InputError, needs
from weightgen.storage.limits import check_file
from weightgen.training.components import COMPONENT, suggestion

with needs("train"):
    import yaml
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

MAX_CHARACTERS, MAX_DEPTH = 100_000, 50  # of a file of settings
T = TypeVar("T")


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
        _check_numbers(OmegaConf.to_container(config))
        if missing := sorted(OmegaConf.missing_keys(config)):
            raise InputError(f"missing settings: write {' '.join(f'{key}=...' for key in missing)}")
        return cast(T, _at_home(OmegaConf.to_object(config)))
    except OmegaConfBaseException as error:
        raise InputError(_first_line(error)) from error


def _at_home(settings: Any) -> Any:
    """Texts that begin with `~/` are paths: a shell expands them on its command line, but not in YAML or after `key=`."""
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, str) and value.startswith("~/"):
            setattr(settings, field.name, str(Path(value).expanduser()))
    return settings


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
    check_file(path, "a YAML file with settings")
    try:
        _check_depth(Path(path).read_text(encoding="utf-8-sig"))
        loaded = OmegaConf.load(path)
    except (OSError, ValueError, RecursionError, YAMLError, OmegaConfBaseException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(
            f"cannot read the settings in {path}: {' '.join(str(reason).split()):.300}"
        ) from error
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
                _check_depth(value)
                config.merge_with_dotlist([word])
        except InputError:
            raise
        except (
            OmegaConfBaseException,
            YAMLError,
            TypeError,
            ValueError,
            AttributeError,
            RecursionError,
        ) as error:
            raise InputError(f"cannot understand {word[:200]!r}: {_first_line(error)}") from error
    return config


def _is_text(schema: Any, key: str, value: str) -> bool:
    for part in key.split("."):
        schema = get_type_hints(schema).get(part) if is_dataclass(schema) else None
    return schema in (str, Path) or (schema in (str | None, Path | None) and value != "null")


def _merge(config: DictConfig, extra: DictConfig, source: str) -> DictConfig:
    try:
        known = [str(key) for key in config.keys()]  # noqa: SIM118  `in config` leaves out what must be given
        for key in map(str, extra):
            if key not in known:
                raise InputError(
                    f"{source}, {key}: there is no setting {key!r}{suggestion(key, known)}; "
                    "--help lists all settings"
                )
        _forget_replaced(config, cast(dict[Any, Any], OmegaConf.to_container(extra)))
        return cast(DictConfig, OmegaConf.merge(config, extra))
    except (OmegaConfBaseException, TypeError) as error:
        at = getattr(error, "full_key", None)
        where = f"{source}, {at}" if at else source
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


def _check_numbers(value: Any, name: str = "") -> None:
    """Refuse NaN, infinity, and integers that no 64 bits hold, before anything is computed with them.

    Raises:
        InputError: naming the setting.
    """
    if isinstance(value, dict):
        for key, part in value.items():
            _check_numbers(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for part in value:
            _check_numbers(part, name)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name}: expected a finite number, got {value}")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise InputError(f"{name}: the number {str(value)[:12]}... is too large")


def _check_depth(text: str) -> None:
    """Refuse YAML that is nested so deeply, or is so long, that it can only be damage: its reader would overflow.

    Raises:
        InputError: see above.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"settings have {len(text):,} characters: expected at most {MAX_CHARACTERS:,}")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):  # a list of events needs no recursion
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InputError(f"settings are nested more than {MAX_DEPTH} deep")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
