"""The whole matrix of power, written out: a change here is a change of who may do what."""

import pytest

from bedside.core.request import Principal, Role
from bedside.identity.actions import ACTIONS
from bedside.identity.decide import decide
from bedside.identity.roles import ANYONE, OPERATOR, ROLES, WITH_ONE_TIME_PASSWORD

MATRIX = {
    # action                   nobody admin provider staff one-time operator
    "auth:session:start":     "yes    yes   yes      yes   yes      no",
    "auth:session:renew":     "yes    yes   yes      yes   yes      no",
    "auth:session:end":       "no     yes   yes      yes   yes      no",
    "auth:password:change":   "no     yes   yes      yes   yes      no",
    "auth:profile:read":      "no     yes   yes      yes   yes      no",
    "system:health:read":     "no     yes   no       no    no       no",
    "system:openapi:read":    "no     yes   yes      yes   no       no",
    "local:status:read":      "no     yes   yes      yes   no       no",
    "local:models:read":      "no     yes   yes      yes   no       no",
    "local:models:manage":    "no     yes   no       no    no       yes",
    "clinical:task:run":      "no     yes   yes      no    no       no",
    "site:users:manage":      "no     yes   no       no    no       yes",
    "site:keys:renew":        "no     yes   no       no    no       yes",
    "site:gateway:start":     "no     no    no       no    no       yes",
    "site:gateway:stop":      "no     no    no       no    no       yes",
}  # fmt: skip


def someone(role: Role, *, one_time: bool = False) -> Principal:
    return Principal("id", "someone", role, "family", one_time)


def row(action: str) -> str:
    who = [None, someone(Role.ADMIN), someone(Role.PROVIDER), someone(Role.STAFF), someone(Role.ADMIN, one_time=True)]
    answers = [decide(principal, action).allowed for principal in who] + [action in OPERATOR]
    return " ".join("yes" if answer else "no" for answer in answers)


def test_the_matrix_is_as_written_here_and_complete() -> None:
    assert {action: row(action) for action in ACTIONS} == {action: " ".join(m.split()) for action, m in MATRIX.items()}


@pytest.mark.parametrize("principal", [None, someone(Role.ADMIN)])
def test_an_action_that_is_not_in_the_table_is_denied(principal: Principal | None) -> None:
    decision = decide(principal, "local:models:launch")
    assert not decision.allowed
    assert "not a known action" in decision.reason


def test_a_role_that_is_not_in_the_table_is_denied() -> None:
    stranger = Principal("id", "someone", "auditor", "family")  # type: ignore[arg-type]
    assert not decide(stranger, "auth:profile:read").allowed


@pytest.mark.parametrize("action", list(ACTIONS))
def test_every_answer_carries_its_reason(action: str) -> None:
    for principal in (None, someone(Role.STAFF), someone(Role.ADMIN, one_time=True)):
        assert decide(principal, action).reason


def test_the_tables_name_only_known_actions() -> None:
    assert (ANYONE | OPERATOR | WITH_ONE_TIME_PASSWORD).union(*ROLES.values()) <= set(ACTIONS)
