"""Names of models: what is one, how it is written as a file name, and which known ones are near a wrong one."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from urllib.parse import quote, unquote

from bedside.core.errors import BedsideError

# Small letters only: on Windows and macOS two names that differ in case would be one file.
_WORD = r"[a-z0-9][a-z0-9._-]{0,79}"
_NAME = re.compile(rf"{_WORD}(?:/{_WORD}){{0,2}}:{_WORD}")
LONGEST = 160


def is_name(text: str) -> bool:
    """Whether ``text`` is ``model:tag``, or ``owner/model:tag`` with up to two owners."""
    return len(text) <= LONGEST and _NAME.fullmatch(text) is not None


def check_name(text: str) -> str:
    """``text`` itself if it is a name. Raises ``MODEL_NAME_INVALID``."""
    if not is_name(text):
        raise BedsideError("MODEL_NAME_INVALID")
    return text


def file_name(name: str) -> str:
    """One file name for one name: ``owner/model:tag`` is ``owner%2Fmodel%3Atag.json``."""
    return quote(check_name(name), safe="") + ".json"


def name_of(file: str) -> str | None:
    """The name that ``file_name`` turned into ``file``; ``None`` for any other file."""
    name = unquote(file.removesuffix(".json"))
    return name if is_name(name) and file_name(name) == file else None


def near(name: str, names: Iterable[str]) -> list[str]:
    """Up to three known names a user may have meant, best first: same beginning, then similar spelling."""
    known, wanted = sorted(set(names)), name.lower()
    same_start = [other for other in known if wanted and other.startswith(wanted.partition(":")[0])]
    similar = get_close_matches(wanted, known, n=3, cutoff=0.5)
    best_first = [other for other in similar if other in same_start] + same_start + similar
    return list(dict.fromkeys(best_first))[:3]
