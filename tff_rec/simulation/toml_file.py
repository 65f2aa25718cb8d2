"""Options, which are nested frozen dataclasses, in TOML files and back."""

import dataclasses
import pathlib
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from tff_rec.errors import InputError

Config = TypeVar("Config")


def read_toml(path: pathlib.Path, config: type[Config]) -> Config:
    """Reads a configuration; what the file leaves out keeps its default.

    Raises:
        InputError: The file is missing, is no TOML, or holds an unknown option or a wrong value.
    """
    return from_values(config, read_values(path), str(path))


def read_values(path: pathlib.Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        InputError: The file is missing or is no TOML.
    """
    if not path.is_file():
        known = sorted(file.name for file in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        hint = f"; that folder has {', '.join(known)}" if known else ""
        raise InputError(f"There is no configuration file {path}{hint}.")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no valid TOML ({error}); correct it.") from None


def from_values(config: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """A configuration from TOML's values.

    Args:
        config: What it is.
        values: By option; tables of further options, and lists of tables.
        where: They stand, for messages.

    Raises:
        InputError: There is an unknown option or a wrong value, or an option without a default is missing.
    """
    return _from_dict(config, values, where, "")


def to_toml(config: Any) -> str:
    """A configuration as TOML, tables last; None is left out."""
    lines, tables = [], []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            tables.append(f"\n[{field.name}]\n{to_toml(value)}")
        elif value is not None:
            lines.append(f"{field.name} = {_toml_value(value)}\n")
    return "".join(lines + tables)


def _from_dict(config: type[Config], values: Mapping[str, Any], path: str, prefix: str) -> Config:
    hints = typing.get_type_hints(config)
    arguments = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in hints:
            raise InputError(f"{path}: there is no option '{prefix}{key}'; it may have {', '.join(hints)}.")
        arguments[name] = _convert(hints[name], value, path, f"{prefix}{key}")
    for field in dataclasses.fields(typing.cast(Any, config)):
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and field.name not in arguments:
            raise InputError(f"{path}: '{prefix}{field.name}' is missing; give it.")
    try:
        return config(**arguments)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _convert(hint: Any, value: Any, path: str, name: str) -> Any:
    """A TOML value as the type that a field declares."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _from_dict(typing.cast(type[Any], hint), value, path, f"{name}.")
    if origin in (typing.Union, types.UnionType):
        return _convert(next(option for option in options if option is not type(None)), value, path, name)
    if origin is Literal and value in options:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(options[0], item, path, name) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(options[1], item, path, f"{name}.{key}") for key, item in value.items()}
    if hint is Any:
        return value
    if hint is pathlib.Path and isinstance(value, str):
        return pathlib.Path(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    if dataclasses.is_dataclass(hint):
        expected = "a table"
    else:
        expected = " or ".join(map(repr, options)) if origin is Literal else getattr(hint, "__name__", str(hint))
    raise InputError(f"{path}: '{name}' is {value!r}; give {expected}.")


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
