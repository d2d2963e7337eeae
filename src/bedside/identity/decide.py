"""May this person do this? A pure function of the tables; every answer carries its reason."""

from dataclasses import dataclass

from bedside.core.request import Principal
from bedside.identity.actions import ACTIONS
from bedside.identity.roles import ANYONE, ROLES, WITH_ONE_TIME_PASSWORD


@dataclass(frozen=True, slots=True)
class Decision:
    """``code`` is the error a door shows when it is not allowed."""

    allowed: bool
    reason: str
    code: str = "FORBIDDEN"


def decide(principal: Principal | None, action: str) -> Decision:
    """Judges by role alone; an action or a role that is not in the tables is denied."""
    if action not in ACTIONS:
        return Decision(False, f"{action} is not a known action")
    if action in ANYONE:
        return Decision(True, f"anyone may {action}")
    if principal is None:
        return Decision(False, f"{action} needs someone who is signed in", "TOKEN_MISSING")
    if principal.must_change_password and action not in WITH_ONE_TIME_PASSWORD:
        return Decision(False, "the one-time password is still in use", "PASSWORD_CHANGE_REQUIRED")
    if action in ROLES.get(principal.role, frozenset()):
        return Decision(True, f"role {principal.role} may {action}")
    return Decision(False, f"role {principal.role} may not {action}")
