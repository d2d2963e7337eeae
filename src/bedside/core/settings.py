"""Every setting, in one table: name, default, help. CLI, docs, example file and checks all read it.

The table is pure. Reading the environment, ``.env`` and ``bedside.toml`` is done by
``operations/configuration.py``, which hands the raw words here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bedside.core.errors import BedsideError

Value = bool | int | str | Path | tuple[str, ...] | tuple[IPv4Network | IPv6Network, ...] | None
TRUE, FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One row. ``parse`` turns the operator's words into a value or raises ``ValueError`` with a reason."""

    name: str
    default: str
    parse: Callable[[str], Value]
    help: str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Resolved:
    """A setting in force: its value, the words it came from, and where they stood."""

    setting: Setting
    value: Value
    raw: str
    source: str

    @property
    def shown(self) -> str:
        """The words as they may be printed: secrets masked."""
        return _without_credentials(self.raw) if self.setting.secret else self.raw


def flag(raw: str) -> bool:
    if raw.lower() in TRUE:
        return True
    if raw.lower() in FALSE:
        return False
    raise ValueError("use true or false")


def number(low: int, high: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        try:
            value = int(raw)
        except ValueError:
            raise ValueError("use a whole number") from None
        if not low <= value <= high:
            raise ValueError(f"use a number from {low} to {high}")
        return value

    return parse


def choice(*allowed: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw.lower() not in allowed:
            raise ValueError("use one of " + ", ".join(allowed))
        return raw.lower()

    return parse


def choices(*allowed: str) -> Callable[[str], tuple[str, ...]]:
    def parse(raw: str) -> tuple[str, ...]:
        return tuple(choice(*allowed)(part) for part in _parts(raw))

    return parse


def networks(raw: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(part, strict=False) for part in _parts(raw))
    except ValueError:
        raise ValueError("use networks such as 10.1.0.0/16, with commas between them") from None


def url(raw: str) -> str:
    if not raw:
        return ""
    parts = urlsplit(raw if "://" in raw else f"http://{raw}")
    if parts.scheme not in ("http", "https") or not _is_host(parts.hostname or ""):
        raise ValueError("use an address such as http://127.0.0.1:11434")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError("the port is no number from 0 to 65535") from None
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def _is_host(host: str) -> bool:
    """A name or an address that can be resolved at all; no zones, which only mean something on one machine."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return bool(host) and "%" not in host


def path(raw: str) -> Path:
    return Path(raw).expanduser()


def optional_path(raw: str) -> Path | None:
    return path(raw) if raw else None


def words(raw: str) -> str:
    return raw


def _parts(raw: str) -> Sequence[str]:
    return [part for part in raw.replace(",", " ").split() if part]


def _without_credentials(raw: str) -> str:
    parts = urlsplit(raw)
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else raw


_ROWS = (
    Setting(
        "OLLAMA_URL",
        "http://127.0.0.1:11434",
        url,
        "Address of an Ollama node; its models are offered beside the embedded ones. Empty: none.",
        secret=True,
    ),
    Setting(
        "LOCAL_MODELS_ENABLED",
        "true",
        flag,
        "Whether models may be used at all; false refuses all model work.",
    ),
    Setting(
        "HIPAA_MODE",
        "true",
        flag,
        "Refuse nodes outside loopback and BEDSIDE_INSIDE_NETWORKS, and downloads without permission.",
    ),
    Setting("GPU_ACCELERATION", "auto", choice("auto", "true", "false"), "Whether the embedded engine uses a GPU."),
    Setting("OLLAMA_NUM_PARALLEL", "4", number(1, 64), "Requests that one model works on at the same time."),
    Setting("OLLAMA_MAX_LOADED_MODELS", "2", number(1, 64), "Embedded models kept in memory at the same time."),
    Setting("OLLAMA_MAX_QUEUE", "64", number(1, 100_000), "Requests that may wait; one more is refused with 429."),
    Setting("BEDSIDE_HOST", "127.0.0.1", words, "Address the gateway listens on."),
    Setting("BEDSIDE_PORT", "3001", number(0, 65535), "Port the gateway listens on; 0 picks a free one."),
    Setting("BEDSIDE_DATA", "data", path, "Folder for the database, the audit log and the keys."),
    Setting(
        "BEDSIDE_MODELS_DIR",
        "~/.cache/bedside/models",
        path,
        "Folder that holds model files by their sha256.",
    ),
    Setting("BEDSIDE_MODEL", "qwen2.5-coder:0.5b", words, "Model used where a request names none."),
    Setting(
        "BEDSIDE_CONTEXT",
        "8192",
        number(512, 1_048_576),
        "Context of each embedded model, in tokens, all slots together.",
    ),
    Setting(
        "BEDSIDE_PROMPT_CACHE_MB",
        "512",
        number(0, 1_048_576),
        "Memory per embedded model for prompts already read, in MiB.",
    ),
    Setting(
        "BEDSIDE_INSIDE_NETWORKS",
        "",
        networks,
        "Networks that count as inside, such as 10.1.0.0/16; loopback always does.",
    ),
    Setting(
        "BEDSIDE_FAKE",
        "false",
        flag,
        "Offer the scripted models fake:text and fake:vision: answers without any model, for trying out clients.",
    ),
    Setting(
        "BEDSIDE_MODEL_SOURCES",
        "local",
        choices("local", "index", "url"),
        "Kinds of source models may come from without asking: local, index (package index), url.",
    ),
    Setting(
        "BEDSIDE_MODEL_FOLDERS",
        "",
        words,
        "Folders searched for model files by 'bedside models pull', with colons between (semicolons on Windows).",
    ),
    Setting(
        "BEDSIDE_OLLAMA_KEY_FILE",
        "",
        optional_path,
        "File with the bearer key of an Ollama node behind a proxy.",
    ),
    Setting("BEDSIDE_MAX_BODY_MB", "32", number(1, 1024), "Largest request body, in MiB."),
    Setting("BEDSIDE_REQUEST_SECONDS", "600", number(1, 86_400), "Longest time for one request, waiting included."),
    Setting("BEDSIDE_STALL_SECONDS", "30", number(1, 3600), "Longest silence of a node while it answers."),
    Setting("BEDSIDE_LOAD_SECONDS", "300", number(5, 7200), "Longest time for loading an embedded model."),
    Setting("BEDSIDE_DRAIN_SECONDS", "30", number(0, 3600), "On SIGTERM, how long running requests may finish."),
    Setting("BEDSIDE_TOKEN_MINUTES", "15", number(1, 1440), "Life of an access token."),
    Setting("BEDSIDE_REFRESH_HOURS", "24", number(1, 8760), "Life of a refresh token; each use gives a new one."),
    Setting("BEDSIDE_TRUSTED_PROXIES", "", networks, "Proxies whose X-Forwarded-For is believed."),
    Setting(
        "BEDSIDE_LOG",
        "auto",
        choice("auto", "json", "text"),
        "Form of the program's log; auto: text on a terminal.",
    ),
)
SETTINGS: Mapping[str, Setting] = {row.name: row for row in _ROWS}


class Settings:
    """The settings in force. Read a value with its type: ``settings.flag("HIPAA_MODE")``."""

    def __init__(self, resolved: Mapping[str, Resolved]) -> None:
        self.resolved = resolved

    def _get(self, name: str) -> Value:
        return self.resolved[name].value

    def flag(self, name: str) -> bool:
        return bool(self._get(name))

    def number(self, name: str) -> int:
        value = self._get(name)
        assert isinstance(value, int)  # noqa: S101 - the row's parser gives an int
        return value

    def text(self, name: str) -> str:
        return str(self._get(name))

    def path(self, name: str) -> Path:
        return Path(str(self._get(name)))

    def optional_path(self, name: str) -> Path | None:
        value = self._get(name)
        return value if isinstance(value, Path) else None

    def words(self, name: str) -> tuple[str, ...]:
        value = self._get(name)
        return tuple(str(v) for v in value) if isinstance(value, tuple) else ()

    def networks(self, name: str) -> tuple[IPv4Network | IPv6Network, ...]:
        value = self._get(name)
        return tuple(v for v in value if not isinstance(v, str)) if isinstance(value, tuple) else ()


def resolve(sources: Sequence[tuple[str, Mapping[str, str]]]) -> Settings:
    """The first source that names a setting wins; an absent setting has its default.

    ``sources`` are (where, words) in order of strength. Raises ``SETTING_INVALID`` naming the setting.
    """
    return Settings({row.name: _resolve(row, sources) for row in _ROWS})


def _resolve(row: Setting, sources: Sequence[tuple[str, Mapping[str, str]]]) -> Resolved:
    source, raw = next(
        ((where, given[row.name]) for where, given in sources if row.name in given), ("default", row.default)
    )
    try:
        return Resolved(row, row.parse(raw.strip()), raw.strip(), source)
    except ValueError as why:
        raise BedsideError("SETTING_INVALID", name=row.name, why=f"{why} (from {source})", help=row.help) from None
