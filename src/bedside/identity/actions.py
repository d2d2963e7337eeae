"""Everything anyone can do, one row each. A door names the row; the role table says who may."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Sort(StrEnum):
    """How an act is recorded: a READ is one event before it, a CHANGE or MODEL use an intent and an outcome."""

    READ = "read"
    CHANGE = "change"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Action:
    """``scope:resource:act``, and what it means in words."""

    name: str
    sort: Sort
    help: str


_ROWS = (
    Action("auth:session:start", Sort.CHANGE, "Sign in with a user name and a password."),
    Action("auth:session:renew", Sort.CHANGE, "Exchange a refresh token for new tokens."),
    Action("auth:session:end", Sort.CHANGE, "Sign out."),
    Action("auth:password:change", Sort.CHANGE, "Change one's own password."),
    Action("auth:profile:read", Sort.READ, "See one's own account."),
    Action("system:health:read", Sort.READ, "See each part of the program and its state."),
    Action("system:openapi:read", Sort.READ, "Read the description of the REST calls."),
    Action("local:status:read", Sort.READ, "See nodes, models, queue and machine."),
    Action("local:models:read", Sort.READ, "List models and read about one."),
    Action("local:models:manage", Sort.CHANGE, "Install and remove model files."),
    Action("clinical:task:run", Sort.MODEL, "Have a model work on a text or an image."),
    Action("site:users:manage", Sort.CHANGE, "Add users, set passwords, switch accounts off and on."),
    Action("site:keys:renew", Sort.CHANGE, "Replace one of the site's keys."),
    Action("site:gateway:start", Sort.READ, "Start the gateway."),
    Action("site:gateway:stop", Sort.READ, "Stop the gateway."),
)
ACTIONS: Mapping[str, Action] = {row.name: row for row in _ROWS}
