"""Signing in, staying signed in, and being kept out."""

import asyncio
import base64
import json
from pathlib import Path

import jwt
import pytest
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.program import PASSWORD, Answered, Program, program, quick_passwords

from bedside.audit.events import Outcome
from bedside.core.clock import SetClock
from bedside.core.request import Role
from bedside.identity.passwords import Passwords
from bedside.storage.keys import KeyFolder

pytestmark = pytest.mark.anyio


class SlowPasswords(Passwords):
    """Says when it has checked, and answers when it is told to."""

    def __init__(self) -> None:
        super().__init__(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
        self.checked, self.go = asyncio.Event(), asyncio.Event()

    async def matches(self, password_hash: str | None, password: str) -> bool:
        good = await super().matches(password_hash, password)
        self.checked.set()
        await self.go.wait()
        return good


async def login(p: Program, name: str, password: str = PASSWORD) -> Answered:
    return await p.ask("POST", "/api/auth/login", {"username": name, "password": password})


async def test_signing_in_gives_the_user_and_tokens(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        data = (await login(p, "dr.lee")).data
        assert set(data) == {"user", "token", "refreshToken", "expiresIn", "mustChangePassword"}
        assert (data["user"]["username"], data["user"]["role"], data["expiresIn"]) == ("dr.lee", "provider", 900)
        profile = (await p.ask("GET", "/api/auth/profile", token=data["token"])).data
        assert profile == {**data["user"], "mustChangePassword": False}


async def test_access_tokens_are_jwts_signed_with_ed25519_for_this_audience(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        token = await p.user("dr.lee", Role.PROVIDER)
        assert jwt.get_unverified_header(token)["alg"] == "EdDSA"
        claims = jwt.decode(token, options={"verify_signature": False})
        assert {"iss", "aud", "sub", "role", "jti", "exp"} <= set(claims)
        assert claims["exp"] - claims["iat"] == 900


async def test_a_one_time_password_opens_nothing_but_its_own_change(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        one_time = await p.vault.accounts.add("dr.lee", Role.PROVIDER)
        token = (await login(p, "dr.lee", one_time)).data["token"]
        refused = await p.ask("GET", "/api/local/status", token=token)
        assert (refused.status, refused.code) == (403, "PASSWORD_CHANGE_REQUIRED")
        assert (await p.ask("GET", "/api/auth/profile", token=token)).data["mustChangePassword"] is True


@pytest.mark.parametrize(
    ("new", "why"),
    [
        ("short", "12"),
        ("x" * 300, "256"),
        ("aaaaaaaaaaaaaa", "guess"),
        ("my-dr.lee-secret", "guess"),
        (PASSWORD, "now"),
    ],
)
async def test_a_weak_new_password_is_refused_and_the_old_one_stays(tmp_path: Path, new: str, why: str) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"currentPassword": PASSWORD, "newPassword": new}
        answer = await p.ask("POST", "/api/auth/password", body, as_="dr.lee")
        assert (answer.status, answer.code) == (400, "PASSWORD_TOO_WEAK")
        assert why in answer.message
        assert (await login(p, "dr.lee")).status == 200


async def test_a_changed_password_ends_all_other_sign_ins(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        other = (await login(p, "dr.lee")).data
        body = {"currentPassword": PASSWORD, "newPassword": "another good long phrase"}
        mine = (await p.ask("POST", "/api/auth/password", body, as_="dr.lee")).data
        assert (await p.ask("GET", "/api/auth/profile", token=mine["token"])).status == 200
        assert (await p.ask("GET", "/api/auth/profile", token=other["token"])).code == "TOKEN_INVALID"
        refresh = {"refreshToken": other["refreshToken"]}
        assert (await p.ask("POST", "/api/auth/refresh", refresh)).code == "REFRESH_INVALID"


async def test_the_wrong_current_password_changes_nothing(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"currentPassword": "not the password", "newPassword": "another good long phrase"}
        assert (await p.ask("POST", "/api/auth/password", body, as_="dr.lee")).code == "SIGN_IN_FAILED"


async def test_signing_out_ends_the_access_token_at_once(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        assert (await p.ask("POST", "/api/auth/logout", as_="dr.lee")).data == {"signedOut": True}
        assert (await p.ask("GET", "/api/auth/profile", as_="dr.lee")).code == "TOKEN_INVALID"


async def test_a_refresh_token_is_good_once(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        first = (await login(p, "dr.lee")).data
        second = (await p.ask("POST", "/api/auth/refresh", {"refreshToken": first["refreshToken"]})).data
        assert second["refreshToken"] != first["refreshToken"]
        assert (await p.ask("GET", "/api/auth/profile", token=second["token"])).status == 200


async def test_a_reused_refresh_token_ends_its_whole_family(tmp_path: Path) -> None:
    """RFC 9700, section 4.14.2: whoever reuses one, the thief or the owner, both are out."""
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        first = (await login(p, "dr.lee")).data
        second = (await p.ask("POST", "/api/auth/refresh", {"refreshToken": first["refreshToken"]})).data
        reused = await p.ask("POST", "/api/auth/refresh", {"refreshToken": first["refreshToken"]})
        assert (reused.status, reused.code) == (401, "REFRESH_INVALID")
        again = await p.ask("POST", "/api/auth/refresh", {"refreshToken": second["refreshToken"]})
        assert again.code == "REFRESH_INVALID"
        assert (await p.ask("GET", "/api/auth/profile", token=second["token"])).code == "TOKEN_INVALID"


async def test_two_at_once_with_one_refresh_token_never_both_succeed(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"refreshToken": (await login(p, "dr.lee")).data["refreshToken"]}
        answers = await asyncio.gather(*(p.ask("POST", "/api/auth/refresh", body) for _ in range(6)))
        assert sum(answer.status == 200 for answer in answers) <= 1


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c"])
async def test_a_made_up_token_is_refused(tmp_path: Path, token: str) -> None:
    async with program(tmp_path) as p:
        answer = await p.ask("GET", "/api/auth/profile", token=token or None)
        assert answer.status == 401
        assert answer.code == ("TOKEN_INVALID" if token else "TOKEN_MISSING")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_an_expired_token_is_refused(tmp_path: Path) -> None:
    clock = SetClock()
    async with program(tmp_path, clock=clock) as p:
        await p.user("dr.lee", Role.PROVIDER)
        clock.advance(899)
        assert (await p.ask("GET", "/api/auth/profile", as_="dr.lee")).status == 200
        clock.advance(2)
        assert (await p.ask("GET", "/api/auth/profile", as_="dr.lee")).code == "TOKEN_EXPIRED"


async def test_an_expired_refresh_token_is_refused(tmp_path: Path) -> None:
    clock = SetClock()
    async with program(tmp_path, clock=clock) as p:
        await p.user("dr.lee", Role.PROVIDER)
        body = {"refreshToken": (await login(p, "dr.lee")).data["refreshToken"]}
        clock.advance(24 * 3600 + 1)
        assert (await p.ask("POST", "/api/auth/refresh", body)).code == "REFRESH_INVALID"


async def test_a_forged_token_is_refused(tmp_path: Path) -> None:
    """Another key, another algorithm, another audience, another issuer, no family, an edited role."""
    async with program(tmp_path) as p:
        good = await p.user("dr.lee", Role.PROVIDER)
        claims = jwt.decode(good, options={"verify_signature": False})
        key = KeyFolder(p.settings.path("BEDSIDE_DATA") / "keys", fresh=False).signing("token")
        head, _, signature = good.split(".")
        edited = base64.urlsafe_b64encode(json.dumps({**claims, "role": "admin"}).encode()).decode().rstrip("=")
        forged = {
            "another key": jwt.encode(claims, Ed25519PrivateKey.generate(), algorithm="EdDSA"),
            "no algorithm": jwt.encode(claims, "", algorithm="none"),
            "HMAC with the public key": jwt.encode(claims, key.public_key().public_bytes_raw(), algorithm="HS256"),
            "another audience": jwt.encode({**claims, "aud": "elsewhere"}, key, algorithm="EdDSA"),
            "another issuer": jwt.encode({**claims, "iss": "elsewhere"}, key, algorithm="EdDSA"),
            "no family": jwt.encode({k: v for k, v in claims.items() if k != "fam"}, key, algorithm="EdDSA"),
            "another user's family": jwt.encode({**claims, "sub": "someone"}, key, algorithm="EdDSA"),
            "an unknown role": jwt.encode({**claims, "role": "god"}, key, algorithm="EdDSA"),
            "an edited body": f"{head}.{edited}.{signature}",
        }
        for how, token in forged.items():
            answer = await p.ask("GET", "/api/auth/profile", token=token)
            assert (answer.status, answer.code) == (401, "TOKEN_INVALID"), how


async def test_the_role_that_counts_is_the_accounts_and_not_the_tokens(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        good = await p.user("front.desk", Role.STAFF)
        key = KeyFolder(p.settings.path("BEDSIDE_DATA") / "keys", fresh=False).signing("token")
        claims = jwt.decode(good, options={"verify_signature": False})
        token = jwt.encode({**claims, "role": "admin"}, key, algorithm="EdDSA")
        assert (await p.ask("GET", "/api/health/detailed", token=token)).code == "FORBIDDEN"


async def test_an_account_switched_off_by_another_program_is_out_within_a_second(tmp_path: Path) -> None:
    clock = SetClock()
    async with program(tmp_path, clock=clock) as p:
        await p.user("dr.lee", Role.PROVIDER)
        assert (await p.ask("GET", "/api/auth/profile", as_="dr.lee")).status == 200
        store = p.vault.accounts._store
        user = await store.user("dr.lee")
        assert user
        await store.set_disabled(user.id, True)  # as 'bedside users disable' does beside a running gateway
        clock.advance(1.1)
        assert (await p.ask("GET", "/api/auth/profile", as_="dr.lee")).code == "TOKEN_INVALID"
        assert (await login(p, "dr.lee")).code == "SIGN_IN_FAILED"


async def test_guessing_is_slowed_down_and_a_wait_is_said(tmp_path: Path) -> None:
    clock = SetClock()
    async with program(tmp_path, clock=clock) as p:
        await p.user("dr.lee", Role.PROVIDER)
        codes = [(await login(p, "dr.lee", "wrong")).code for _ in range(4)]
        assert codes == ["SIGN_IN_FAILED"] * 3 + ["SIGN_IN_THROTTLED"]
        late = await login(p, "dr.lee")
        assert (late.status, late.code) == (429, "SIGN_IN_THROTTLED")
        clock.advance(int(late.headers["Retry-After"]))
        assert (await login(p, "dr.lee")).status == 200


async def test_guesses_sent_side_by_side_count_like_guesses_in_a_row(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        answers = await asyncio.gather(*(login(p, "dr.lee", "wrong") for _ in range(10)))
        assert sum(answer.code == "SIGN_IN_FAILED" for answer in answers) <= 3


async def test_a_password_that_was_reset_while_it_was_checked_opens_nothing(tmp_path: Path) -> None:
    """The check takes a while; an admin who takes the account back in that time must win."""
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        accounts, slow = p.vault.accounts, SlowPasswords()
        accounts._passwords = slow
        for path, body, who in (
            ("/api/auth/login", {"username": "dr.lee", "password": PASSWORD}, None),
            ("/api/auth/password", {"currentPassword": PASSWORD, "newPassword": "another good long phrase"}, "dr.lee"),
        ):
            slow.checked.clear()
            asking = asyncio.create_task(p.ask("POST", path, body, as_=who))
            await slow.checked.wait()
            user = await accounts._store.user("dr.lee")
            assert user
            await accounts._store.set_password(user.id, await slow.hash("set by an admin"), must_change=True)
            slow.go.set()
            assert (await asking).code == "SIGN_IN_FAILED"
            await accounts._store.set_password(user.id, user.password_hash, must_change=False)
            slow.go.clear()
            accounts._passwords = quick_passwords()
            p.tokens["dr.lee"] = (await login(p, "dr.lee")).data["token"]
            accounts._passwords = slow


async def test_an_unknown_user_is_told_nothing_that_a_known_one_is_not(tmp_path: Path) -> None:
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        known, unknown = await login(p, "dr.lee", "wrong"), await login(p, "nobody", "wrong")
        assert (known.status, known.code, known.message) == (unknown.status, unknown.code, unknown.message)
        for _ in range(2):
            known, unknown = await login(p, "dr.lee", "wrong"), await login(p, "nobody", "wrong")
        known, unknown = await login(p, "dr.lee", "wrong"), await login(p, "nobody", "wrong")
        assert known.code == unknown.code == "SIGN_IN_THROTTLED"


async def test_a_failed_sign_in_is_in_the_log_without_what_was_typed(tmp_path: Path) -> None:
    """What stands in the name field of a failed sign-in may be a password."""
    async with program(tmp_path) as p:
        await p.user("dr.lee", Role.PROVIDER)
        await login(p, "my-Secret-Passw0rd!", "dr.lee")
        await login(p, "dr.lee", "wrong")
        records = [r for r in p.records() if r.action == "auth:session:start" and r.outcome is Outcome.FAILED]
        assert [r.actor for r in records] == ["unknown", "dr.lee"]
        assert "Secret" not in (p.settings.path("BEDSIDE_DATA") / "audit" / "log.jsonl").read_text()


@pytest.mark.parametrize("role", list(Role))
async def test_each_call_opens_to_the_roles_that_may_use_it(tmp_path: Path, role: Role) -> None:
    async with program(tmp_path) as p:
        await p.user("someone", role)
        work = {"modelName": "fake:text", "prompt": "a"}
        expected = {
            ("GET", "/api/auth/profile"): {Role.ADMIN, Role.PROVIDER, Role.STAFF},
            ("GET", "/api/local/status"): {Role.ADMIN, Role.PROVIDER, Role.STAFF},
            ("GET", "/api/local/models"): {Role.ADMIN, Role.PROVIDER, Role.STAFF},
            ("GET", "/api/local/models/fake:text/info"): {Role.ADMIN, Role.PROVIDER, Role.STAFF},
            ("GET", "/api/openapi.json"): {Role.ADMIN, Role.PROVIDER, Role.STAFF},
            ("POST", "/api/local/process"): {Role.ADMIN, Role.PROVIDER},
            ("POST", "/api/tasks/soap-note"): {Role.ADMIN, Role.PROVIDER},
            ("GET", "/api/health/detailed"): {Role.ADMIN},
        }
        for (method, path), roles in expected.items():
            body = {"text": "Cough."} if "soap" in path else work if method == "POST" else None
            answer = await p.ask(method, path, body, as_="someone")
            assert answer.status == (200 if role in roles else 403), (path, role)
            assert (await p.ask(method, path, body)).status == 401
            if role not in roles:
                assert f"role {role} may not" in answer.message
                assert p.records()[-1].outcome is Outcome.REFUSED
