"""Reads the settings from where an operator writes them: environment, ``.env``, ``bedside.toml``.

The environment is strongest, then ``.env``, then ``bedside.toml``, both in the working folder; a name that
stands in none of them has its default.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from bedside.core.errors import BedsideError
from bedside.core.settings import SETTINGS, Settings, resolve

ENV_FILE, TOML_FILE = ".env", "bedside.toml"
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


def load_settings(folder: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """The settings in force for a program started in ``folder`` (the working folder by default).

    Raises ``SETTINGS_FILE`` for a file that can't be read, ``SETTING_INVALID`` for a wrong value.
    """
    folder = folder or Path()
    environment = os.environ if environment is None else environment
    sources = [
        ("environment", environment),
        (ENV_FILE, _read_env(folder / ENV_FILE)),
        (TOML_FILE, _read_toml(folder / TOML_FILE)),
    ]
    for where, words in sources:
        _refuse_unknown(where, words)
    return resolve(sources)


def _refuse_unknown(where: str, words: Mapping[str, str]) -> None:
    """A mistyped name would leave the default in force in silence; ours can be told from other programs' names."""
    for name in words:
        if name.startswith("BEDSIDE_") and name not in SETTINGS:
            near = get_close_matches(name, SETTINGS, 1)
            why = f"there is no such setting (from {where})"
            raise BedsideError("SETTING_INVALID", name=name, why=why, help=f"Did you mean {near[0]}?" if near else "")


def _read_env(path: Path) -> dict[str, str]:
    """``NAME=value`` lines; ``#`` comments, ``export``, and quotes round a value are understood."""
    values = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not (stripped := line.strip()) or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if not match:
            raise BedsideError("SETTINGS_FILE", path=path, why=f"line {number} is not NAME=value")
        values[match[1]] = _unquoted(match[2])
    return values


def _unquoted(raw: str) -> str:
    if len(raw) >= 2 and raw[0] == raw[-1] and raw[0] in "\"'":
        return raw[1:-1]
    return re.sub(r"(^|\s)#.*", "", raw).strip()


def _read_toml(path: Path) -> dict[str, str]:
    """The same names at the top level; numbers, booleans and lists may be written as TOML has them."""
    try:
        values = tomllib.loads(_text(path))
    except tomllib.TOMLDecodeError as why:
        raise BedsideError("SETTINGS_FILE", path=path, why=why) from None
    for name in values:
        if name not in SETTINGS:
            raise BedsideError("SETTINGS_FILE", path=path, why=f"{name} is not a setting")
    return {name: _word(value) for name, value in values.items()}


def _word(value: object) -> str:
    if isinstance(value, list):
        return ",".join(str(part) for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as why:
        raise BedsideError("SETTINGS_FILE", path=path, why=getattr(why, "strerror", None) or "not UTF-8") from None
