"""What REST callers send and get, field by field. OpenAPI is made from these, and every answer is one of them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from bedside.core.chat import Options


class Body(BaseModel):
    """A request: unknown fields are refused, types are not guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Answer(BaseModel):
    """A response, in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, serialize_by_alias=True, populate_by_name=True)


Name = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Password = Annotated[str, Field(min_length=1, max_length=1024)]


class LoginBody(Body):
    username: Name
    password: Password


class RefreshBody(Body):
    refresh_token: Annotated[str, Field(min_length=1, max_length=512)]


class PasswordBody(Body):
    current_password: Password
    new_password: Password


Stop = Annotated[str, Field(min_length=1, max_length=100)]


class OptionsBody(BaseModel):
    """How to sample. The names are those of the engines, and so not in camelCase."""

    model_config = ConfigDict(extra="forbid", strict=True)
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1000)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=131_072)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    stop: Annotated[tuple[Stop, ...], Field(max_length=8)] = ()

    def to_options(self) -> Options:
        return Options(self.temperature, self.top_p, self.top_k, self.max_tokens, self.seed, self.stop)


class ProcessBody(Body):
    model_name: Name
    prompt: Text
    type: Literal["text", "vision"] = "text"
    image_data: str | None = None
    task: Name | None = None
    options: OptionsBody = Field(default_factory=lambda: OptionsBody())
    stream: bool = False


class SoapNoteBody(Body):
    text: Text
    model: Name | None = None
    stream: bool = False


class Health(Answer):
    status: Literal["ok"] = "ok"
    version: str
    uptime: float = Field(description="Seconds since the gateway started.")


class Part(Answer):
    state: str
    reason: str | None = None
    details: dict[str, Any] = {}


class DetailedHealth(Answer):
    status: Literal["ok", "degraded"]
    version: str
    uptime: float
    parts: dict[str, Part]


class UserOut(Answer):
    id: str
    username: str
    role: Literal["admin", "provider", "staff"]


class Profile(UserOut):
    must_change_password: bool


class SignedIn(Answer):
    user: UserOut
    token: str
    refresh_token: str
    expires_in: int = Field(description="Seconds the access token is good for.")
    must_change_password: bool


class SignedOut(Answer):
    signed_out: Literal[True] = True


class ModelOut(Answer):
    name: str
    display_name: str
    size: int = Field(description="Bytes.")
    type: Literal["text", "vision"]
    capabilities: list[str]
    description: str
    installed: bool
    quantization: str | None
    digest: str | None
    license: str | None


class ModelDetail(ModelOut):
    context_length: int | None = Field(description="Tokens.")
    family: str | None
    parameters: int | None
    node: str | None = Field(description="The node that would run it.")
    loaded: bool
    install_command: str | None = Field(description="What installs it, where it is not installed.")


class ActiveModel(Answer):
    name: str
    node: str


class NodeOut(Answer):
    name: str
    state: str
    reason: str | None
    models: list[str]


class QueueOut(Answer):
    running: int
    waiting: int
    limit: int
    parallel: int


class SystemInfo(Answer):
    platform: str
    arch: str
    total_memory: int
    free_memory: int
    cpu_count: int
    has_gpu: bool = Field(serialization_alias="hasGPU")
    gpus: list[dict[str, Any]]


class Status(Answer):
    ollama_running: bool
    ollama_url: str
    installed_models: list[ModelOut]
    available_models: list[ModelOut]
    active_models: list[ActiveModel]
    nodes: list[NodeOut]
    queue: QueueOut
    system_info: SystemInfo
    hipaa_mode: bool


class Timings(Answer):
    """Milliseconds; ``tokens_per_second`` while writing."""

    queue_ms: float
    first_token_ms: float
    prompt_ms: float
    completion_ms: float
    tokens_per_second: float | None
    cached_tokens: int


class FlagOut(Answer):
    section: str
    text: str
    reason: str


class Processed(Answer):
    response: str
    task: str | None
    model: str
    digest: str | None
    tokens: int
    prompt_tokens: int
    duration: int = Field(description="Nanoseconds from arrival to the end.")
    timings: Timings
    timestamp: str
    request_id: str
    finish_reason: Literal["stop", "length"]
    sections: dict[str, str] = Field(description="The answer by part, where the task has parts.")
    flags: list[FlagOut] = Field(description="Sentences that do not rest on the text that was sent.")


class SoapNoteOut(Processed):
    """A draft: it counts for nothing until a provider has read and signed it."""

    status: Literal["draft"] = "draft"
    subjective: str
    objective: str
    assessment: str
    plan: str


class TokenEvent(Answer):
    """The data of ``event: token``."""

    text: str


class QueuedEvent(Answer):
    """The data of ``event: queued``."""

    position: int


class ErrorOut(Answer):
    code: str
    message: str
    request_id: str


class Failure(Answer):
    success: Literal[False] = False
    error: ErrorOut
