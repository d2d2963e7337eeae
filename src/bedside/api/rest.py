"""The REST door, as existing clients know it: one table of calls and their handlers."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from pydantic_core import to_json
from starlette.types import ASGIApp

from bedside.api import examples
from bedside.api import schemas as s
from bedside.api.answers import send_json, success
from bedside.api.calls import Call, Handler, Incoming, router
from bedside.api.openapi import OPENAPI_PATH, describe
from bedside.api.site import Site, model_detail, model_out
from bedside.api.work import Work
from bedside.core.errors import BedsideError
from bedside.core.request import Principal
from bedside.gateway.handle import RUN, Gateway
from bedside.identity.accounts import SignedIn

_WORK_ERRORS = (
    "MODEL_UNKNOWN",
    "MODEL_NOT_INSTALLED",
    "PROMPT_TOO_LONG",
    "QUEUE_FULL",
    "WAITED_TOO_LONG",
    "SHUTTING_DOWN",
    "LOCAL_MODELS_DISABLED",
    "NODE_UNREACHABLE",
    "NODE_FAILED",
    "MEMORY_SHORT",
    "GGUF_INVALID",
    "NODE_ERROR",
    "NODE_GARBLED",
    "ENGINE_GONE",
    "STREAM_INCOMPLETE",
    "STREAM_STALLED",
    "CONTEXT_MISMATCH",
    "ANSWER_EMPTY",
)
_EVENTS: Mapping[str, Any] = {"queued": s.QueuedEvent, "token": s.TokenEvent, "error": s.ErrorOut}


Reply = Callable[[Incoming, Principal], Awaitable[Any]]


class Rest:
    """The table, and the handlers of all calls but those that have a model work (``work.py``)."""

    def __init__(self, gateway: Gateway, site: Site) -> None:
        self._gateway, self._site, self._accounts = gateway, site, gateway.accounts

    def app(self) -> ASGIApp:
        return router(self.calls(), lambda context: self._accounts.identify(context.token))

    def calls(self) -> Sequence[Call]:
        return (*self._open_calls(), *self._account_calls(), *self._reading_calls(), *self._work_calls())

    def _open_calls(self) -> Sequence[Call]:
        return (
            Call("GET", "/api/health", None, "Whether the gateway is up.", self.health, s.Health),
            Call(
                "POST",
                "/api/auth/login",
                "auth:session:start",
                "Sign in.",
                self.login,
                s.SignedIn,
                s.LoginBody,
                errors=("SIGN_IN_FAILED", "SIGN_IN_THROTTLED"),
                example=examples.LOGIN,
            ),
            Call(
                "POST",
                "/api/auth/refresh",
                "auth:session:renew",
                "Exchange a refresh token for new tokens; each is good once.",
                self.refresh,
                s.SignedIn,
                s.RefreshBody,
                errors=("REFRESH_INVALID",),
                example=examples.REFRESH,
            ),
        )

    def _account_calls(self) -> Sequence[Call]:
        return (
            self._reply("POST", "/api/auth/logout", "auth:session:end", "Sign out.", self.logout, s.SignedOut),
            self._reply(
                "POST",
                "/api/auth/password",
                "auth:password:change",
                "Change one's own password; all other sign-ins end.",
                self.password,
                s.SignedIn,
                body=s.PasswordBody,
                errors=("SIGN_IN_FAILED", "SIGN_IN_THROTTLED", "PASSWORD_TOO_WEAK"),
                example=examples.PASSWORD,
            ),
            self._reply("GET", "/api/auth/profile", "auth:profile:read", "One's own account.", self.profile, s.Profile),
        )

    def _reading_calls(self) -> Sequence[Call]:
        return (
            self._reply(
                "GET",
                "/api/health/detailed",
                "system:health:read",
                "Each part of the program and its state.",
                lambda *_: self._site.detailed_health(),
                s.DetailedHealth,
            ),
            self._reply(
                "GET",
                "/api/local/status",
                "local:status:read",
                "Nodes, models, queue and machine.",
                lambda *_: self._site.status(),
                s.Status,
            ),
            self._reply(
                "GET",
                "/api/local/models",
                "local:models:read",
                "Models that are installed or can be.",
                self.models,
                list[s.ModelOut],
            ),
            self._reply(
                "GET",
                "/api/local/models/{name:path}/info",
                "local:models:read",
                "One model in detail.",
                self.model,
                s.ModelDetail,
                errors=("MODEL_UNKNOWN",),
            ),
            Call(
                "GET",
                OPENAPI_PATH,
                "system:openapi:read",
                "This description.",
                self.openapi,
                None,
            ),
        )

    def _work_calls(self) -> Sequence[Call]:
        work = Work(self._gateway)
        return (
            Call(
                "POST",
                "/api/local/process",
                RUN,
                "Have a model work on a prompt, or on a task's text.",
                work.process,
                s.Processed,
                s.ProcessBody,
                events={**_EVENTS, "done": s.Processed},
                errors=(*_WORK_ERRORS, "BAD_BASE64", "NOT_AN_IMAGE", "MODEL_HAS_NO_EYES", "TASK_UNKNOWN"),
                example=examples.PROCESS,
            ),
            Call(
                "POST",
                "/api/tasks/soap-note",
                RUN,
                "Draft a SOAP note from an encounter's text.",
                work.soap_note,
                s.SoapNoteOut,
                s.SoapNoteBody,
                events={**_EVENTS, "done": s.SoapNoteOut},
                errors=_WORK_ERRORS,
                example=examples.SOAP_NOTE,
            ),
        )

    def _reply(self, method: str, path: str, action: str, summary: str, reply: Reply, answer: Any, **rest: Any) -> Call:
        """A call that answers with what ``reply`` makes, once the corridor has let it through."""
        return Call(method, path, action, summary, self._handler(action, reply), answer, **rest)

    def _handler(self, action: str, reply: Reply) -> Handler:
        async def handler(call: Incoming) -> None:
            data = await self._gateway.act(call.context, action, lambda who: reply(call, _someone(who)))
            await send_json(call.send, 200, success(data))

        return handler

    async def health(self, call: Incoming) -> None:
        await send_json(call.send, 200, success(self._site.health()))

    async def login(self, call: Incoming) -> None:
        body: s.LoginBody = call.body
        address = call.context.address
        self._accounts.admit_sign_in(body.username, address)
        actor = await self._accounts.known_name(body.username) or "unknown"

        async def work(_: Principal | None) -> s.SignedIn:
            return _signed_in(await self._accounts.sign_in(body.username, body.password, address))

        answer = await self._gateway.act(call.context, "auth:session:start", work, actor=actor)
        await send_json(call.send, 200, success(answer))

    async def refresh(self, call: Incoming) -> None:
        body: s.RefreshBody = call.body
        actor = await self._accounts.owner(body.refresh_token)
        if actor is None:  # nobody's: like any made-up token it is refused, and not recorded
            raise BedsideError("REFRESH_INVALID")

        async def work(_: Principal | None) -> s.SignedIn:
            return _signed_in(await self._accounts.renew(body.refresh_token))

        answer = await self._gateway.act(call.context, "auth:session:renew", work, actor=actor)
        await send_json(call.send, 200, success(answer))

    async def logout(self, _: Incoming, who: Principal) -> s.SignedOut:
        await self._accounts.sign_out(who)
        return s.SignedOut()

    async def password(self, call: Incoming, who: Principal) -> s.SignedIn:
        body: s.PasswordBody = call.body
        address = call.context.address
        return _signed_in(await self._accounts.change_password(who, body.current_password, body.new_password, address))

    async def profile(self, _: Incoming, who: Principal) -> s.Profile:
        return s.Profile(
            id=who.user_id, username=who.username, role=who.role.value, must_change_password=who.must_change_password
        )

    async def models(self, *_: object) -> Sequence[s.ModelOut]:
        return [model_out(known) for known in await self._site.models()]

    async def model(self, call: Incoming, _: Principal) -> s.ModelDetail:
        return model_detail(await self._site.model(call.params["name"]))

    async def openapi(self, call: Incoming) -> None:
        """Without the envelope: this is the form that other programs read."""

        async def work(_: Principal | None) -> dict[str, Any]:
            return describe(self.calls())

        await send_json(call.send, 200, to_json(await self._gateway.act(call.context, "system:openapi:read", work)))


def _signed_in(signed_in: SignedIn) -> s.SignedIn:
    p = signed_in.principal
    return s.SignedIn(
        user=s.UserOut(id=p.user_id, username=p.username, role=p.role.value),
        token=signed_in.token,
        refresh_token=signed_in.refresh_token,
        expires_in=signed_in.expires_in,
        must_change_password=p.must_change_password,
    )


def _someone(principal: Principal | None) -> Principal:
    assert principal is not None  # noqa: S101 - only calls that need a sign-in come here
    return principal
