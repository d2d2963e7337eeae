"""Which role may do what. What is not in the table is denied."""

from collections.abc import Mapping

from bedside.core.request import Role

_SIGNED_IN = frozenset({"auth:session:end", "auth:password:change", "auth:profile:read"})
_STAFF = _SIGNED_IN | {"system:openapi:read", "local:status:read", "local:models:read"}
_PROVIDER = _STAFF | {"clinical:task:run"}
_ADMIN = _PROVIDER | {"system:health:read", "local:models:manage", "site:users:manage", "site:keys:renew"}

ROLES: Mapping[Role, frozenset[str]] = {Role.STAFF: _STAFF, Role.PROVIDER: _PROVIDER, Role.ADMIN: _ADMIN}

ANYONE = frozenset({"auth:session:start", "auth:session:renew"})
"""Needs no access token: the password, or the refresh token, is the proof."""

WITH_ONE_TIME_PASSWORD = frozenset({"auth:session:end", "auth:password:change", "auth:profile:read"})
"""All that a signed-in user may do before the one-time password is changed."""

OPERATOR = frozenset(
    {"local:models:manage", "site:users:manage", "site:keys:renew", "site:gateway:start", "site:gateway:stop"}
)
"""What the person at this machine's command line may do: whoever owns the data folder holds its keys anyway."""
