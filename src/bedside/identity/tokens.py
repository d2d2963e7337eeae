"""Access tokens: JWTs (RFC 7519) signed with Ed25519 (RFC 8037), short-lived, checked for issuer and audience."""

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedside.core.clock import Clock, new_id
from bedside.core.errors import BedsideError
from bedside.core.request import Role

ISSUER, AUDIENCE = "bedside", "bedside-gateway"
REMEMBERED = 4096
_REQUIRED = ["iss", "aud", "sub", "role", "jti", "exp", "iat", "fam"]


@dataclass(frozen=True, slots=True)
class Claims:
    """What a good token says. ``family`` is the sign-in it descends from; ``expires`` in seconds since 1970."""

    user_id: str
    role: Role
    family: str
    expires: float


class AccessTokens:
    """Issues and reads tokens. A signature once found good is remembered until the token expires: checking
    it costs more than everything else that the lock does."""

    def __init__(self, key: Ed25519PrivateKey, minutes: int, clock: Clock) -> None:
        self._key, self._public, self._clock = key, key.public_key(), clock
        self.seconds = minutes * 60
        self._good: OrderedDict[str, Claims] = OrderedDict()

    def issue(self, user_id: str, role: Role, family: str) -> str:
        now = int(self._clock.now())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user_id,
            "role": role.value,
            "fam": family,
            "jti": new_id(),
            "iat": now,
            "exp": now + self.seconds,
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA")

    def read(self, token: str) -> Claims:
        """Raises ``TOKEN_EXPIRED`` or ``TOKEN_INVALID``."""
        claims = self._good.get(token) or self._check(token)
        if claims.expires <= self._clock.now():
            self._good.pop(token, None)
            raise BedsideError("TOKEN_EXPIRED")
        return claims

    def _check(self, token: str) -> Claims:
        try:
            # Time is judged by our own clock in ``read``.
            found = jwt.decode(
                token,
                self._public,
                algorithms=["EdDSA"],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": _REQUIRED, "verify_exp": False, "verify_iat": False},
            )
            claims = Claims(str(found["sub"]), Role(found["role"]), str(found["fam"]), float(found["exp"]))
        except (jwt.InvalidTokenError, ValueError, TypeError):
            raise BedsideError("TOKEN_INVALID") from None
        self._good[token] = claims
        while len(self._good) > REMEMBERED:
            self._good.popitem(last=False)
        return claims


def new_refresh_token(family: str) -> tuple[str, str]:
    """A refresh token, and the SHA-256 of it that is stored. Its first part names its family."""
    token = f"{family}.{secrets.token_urlsafe(32)}"
    return token, refresh_hash(token)


def refresh_hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
