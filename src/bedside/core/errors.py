"""Every error a user can meet: one row each, with its sentence and what to do about it.

Code anywhere raises ``BedsideError("CODE", fact=...)``. Only the doors (``api/problems.py``, the CLI)
turn it into something a caller sees. Facts are names, numbers and paths; never a caller's text.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What sort of failure it is; each door maps a kind to its own status (HTTP, exit code)."""

    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    MISSING = "missing"
    METHOD = "method"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    THROTTLED = "throttled"
    INTERNAL = "internal"
    UPSTREAM = "upstream"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    SETUP = "setup"


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """A row of the table: ``message`` is the cause, ``cure`` what to do; both take the facts by name."""

    kind: Kind
    message: str
    cure: str


ERRORS: Mapping[str, ErrorSpec] = {
    # What a caller sent
    "NOT_FOUND": ErrorSpec(Kind.MISSING, "There is nothing at {path}.", "See /api/openapi.json for the calls."),
    "METHOD_NOT_ALLOWED": ErrorSpec(Kind.METHOD, "{path} does not take {method}.", "It takes {allowed}."),
    "BAD_JSON": ErrorSpec(Kind.INVALID, "The body is not valid JSON: {why}.", "Send one JSON object in UTF-8."),
    "UNKNOWN_FIELD": ErrorSpec(
        Kind.INVALID, "The body has a field that is not known here: {field}.", "Known fields: {known}."
    ),
    "BAD_FIELD": ErrorSpec(Kind.INVALID, "The field {field} is not right: {why}.", "Correct it and send again."),
    "BODY_TOO_LARGE": ErrorSpec(
        Kind.TOO_LARGE,
        "The body is over the limit of {limit} bytes.",
        "Send less, or raise BEDSIDE_MAX_BODY_MB.",
    ),
    "BAD_BASE64": ErrorSpec(
        Kind.INVALID, "imageData is not valid base64.", "Encode the image file's bytes as standard base64."
    ),
    "NOT_AN_IMAGE": ErrorSpec(
        Kind.INVALID,
        "imageData is not a picture this program knows.",
        "Send a whole PNG, JPEG, GIF, BMP or WebP.",
    ),
    "MODEL_UNKNOWN": ErrorSpec(
        Kind.MISSING,
        "There is no model named {name}.",
        "Near names: {near}. 'bedside models list' or GET /api/local/models shows all.",
    ),
    "MODEL_NOT_INSTALLED": ErrorSpec(Kind.CONFLICT, "The model {name} is not installed.", "Install it with: {command}"),
    "MODEL_HAS_NO_EYES": ErrorSpec(
        Kind.INVALID,
        "The model {name} reads text only.",
        "Choose a model whose type is vision, or send no image.",
    ),
    "TASK_UNKNOWN": ErrorSpec(Kind.MISSING, "There is no task named {name}.", "Tasks: {known}."),
    "PROMPT_TOO_LONG": ErrorSpec(
        Kind.TOO_LARGE,
        "The prompt is {tokens} tokens; with room for the answer {model} takes {limit}.",
        "Shorten the text, ask for fewer max_tokens, or raise BEDSIDE_CONTEXT. Nothing was cut and nothing ran.",
    ),
    # Who the caller is, and what they may do
    "TOKEN_MISSING": ErrorSpec(
        Kind.UNAUTHENTICATED,
        "This call needs an access token.",
        "Sign in at POST /api/auth/login and send 'Authorization: Bearer TOKEN'.",
    ),
    "TOKEN_EXPIRED": ErrorSpec(
        Kind.UNAUTHENTICATED,
        "The access token has expired.",
        "Renew it at POST /api/auth/refresh, or sign in again.",
    ),
    "TOKEN_INVALID": ErrorSpec(Kind.UNAUTHENTICATED, "The access token is not valid here.", "Sign in again."),
    "REFRESH_INVALID": ErrorSpec(
        Kind.UNAUTHENTICATED, "The refresh token is not valid, or was used before.", "Sign in again."
    ),
    "SIGN_IN_FAILED": ErrorSpec(
        Kind.UNAUTHENTICATED,
        "The user name or the password is wrong.",
        "Check both; an admin can set a new password.",
    ),
    "SIGN_IN_THROTTLED": ErrorSpec(Kind.THROTTLED, "Too many failed sign-ins.", "Try again in {seconds} seconds."),
    "PASSWORD_CHANGE_REQUIRED": ErrorSpec(
        Kind.FORBIDDEN,
        "The one-time password must be changed before anything else.",
        "POST /api/auth/password with currentPassword and newPassword.",
    ),
    "PASSWORD_TOO_WEAK": ErrorSpec(
        Kind.INVALID,
        "The new password is not strong enough: {why}.",
        "Choose a longer one that is not in use elsewhere.",
    ),
    "FORBIDDEN": ErrorSpec(Kind.FORBIDDEN, "Not allowed: {reason}.", "Ask an admin for a role that may do this."),
    # Users, as an admin meets them
    "USER_EXISTS": ErrorSpec(Kind.CONFLICT, "There is already a user {name}.", "Choose another name."),
    "USER_UNKNOWN": ErrorSpec(Kind.MISSING, "There is no user {name}.", "'bedside users list' shows them."),
    "USER_NAME_INVALID": ErrorSpec(
        Kind.INVALID,
        "That is no user name.",
        "Use 2 to 64 small letters, digits, dots, dashes or underscores, starting with a letter.",
    ),
    "LAST_ADMIN": ErrorSpec(Kind.CONFLICT, "{name} is the last admin who can sign in.", "Make another admin first."),
    # The queue
    "QUEUE_FULL": ErrorSpec(
        Kind.THROTTLED, "The queue is full ({waiting} requests wait).", "Try again in {seconds} seconds."
    ),
    "WAITED_TOO_LONG": ErrorSpec(
        Kind.TIMEOUT,
        "The request was not done in the time allowed for it.",
        "Try again, or raise BEDSIDE_REQUEST_SECONDS.",
    ),
    "SHUTTING_DOWN": ErrorSpec(Kind.UNAVAILABLE, "The gateway is shutting down.", "Try again when it is back."),
    "LOCAL_MODELS_DISABLED": ErrorSpec(
        Kind.UNAVAILABLE, "Local models are switched off here.", "Set LOCAL_MODELS_ENABLED=true and restart."
    ),
    # Where models run
    "NODE_UNREACHABLE": ErrorSpec(
        Kind.UNAVAILABLE,
        "The node {node} does not answer.",
        "Check that it runs; 'bedside settings' shows its address.",
    ),
    "NODE_FAILED": ErrorSpec(
        Kind.UNAVAILABLE,
        "The engine for {model} is marked failed: {why}.",
        "See its last log lines in GET /api/health/detailed; fix the cause and restart the gateway.",
    ),
    "MEMORY_SHORT": ErrorSpec(
        Kind.UNAVAILABLE,
        "Loading {model} takes about {needed} MiB of memory and {free} MiB are free.",
        "Use a smaller model, set OLLAMA_MAX_LOADED_MODELS lower, or stop other programs.",
    ),
    "NODE_ERROR": ErrorSpec(
        Kind.UPSTREAM,
        "The node {node} answered with an error ({status}).",
        "Try again; see the node's own log.",
    ),
    "NODE_GARBLED": ErrorSpec(
        Kind.UPSTREAM,
        "The node {node} sent something that is not its protocol.",
        "Check what listens at its address.",
    ),
    "NODE_TOO_OLD": ErrorSpec(
        Kind.UNAVAILABLE,
        "The node {node} runs version {version}, which cuts a long prompt without saying so.",
        "Update it to {needed} or newer.",
    ),
    "ENGINE_GONE": ErrorSpec(
        Kind.UPSTREAM,
        "The engine for {model} went away while it worked on this request.",
        "It is being restarted; send the request again.",
    ),
    "STREAM_INCOMPLETE": ErrorSpec(
        Kind.UPSTREAM,
        "The node {node} ended its stream without a final record, so the answer may be cut.",
        "Send the request again; if it repeats, restart the node.",
    ),
    "STREAM_STALLED": ErrorSpec(
        Kind.TIMEOUT,
        "The node {node} sent nothing for {seconds} seconds.",
        "Try again; a longer wait can be set with BEDSIDE_STALL_SECONDS.",
    ),
    "CONTEXT_MISMATCH": ErrorSpec(
        Kind.UPSTREAM,
        "The node {node} says it read {reported} prompt tokens where {counted} were sent: it may have cut the prompt.",
        "The answer was thrown away. Check the node's context length.",
    ),
    "ANSWER_EMPTY": ErrorSpec(
        Kind.UPSTREAM, "The model {model} gave no answer for {part}.", "Try again, or use a larger model."
    ),
    # The log
    "AUDIT_UNAVAILABLE": ErrorSpec(
        Kind.UNAVAILABLE,
        "The audit log can't be written ({why}), so nothing was done.",
        "Make room or mend the disk that holds the data folder, then restart.",
    ),
    "AUDIT_BROKEN": ErrorSpec(
        Kind.SETUP,
        "The audit log does not end where its signed head says ({why}).",
        "Restore the folder audit/ (log and head) from a backup, then look with 'bedside audit verify'.",
    ),
    # This machine and its set-up
    "SETTING_INVALID": ErrorSpec(Kind.SETUP, "The setting {name} is not right: {why}.", "{help}"),
    "SETTINGS_FILE": ErrorSpec(Kind.SETUP, "The file {path} can't be read as settings: {why}.", "Correct that line."),
    "NODE_OUTSIDE": ErrorSpec(
        Kind.SETUP,
        "With HIPAA_MODE=true {node} is refused: {address} is not inside.",
        "If that host belongs to you, add its network to BEDSIDE_INSIDE_NETWORKS.",
    ),
    "DATA_FOLDER": ErrorSpec(
        Kind.SETUP,
        "The data folder {path} can't be used: {why}.",
        "Make it writable for this user, or set BEDSIDE_DATA.",
    ),
    "STORE_CORRUPT": ErrorSpec(
        Kind.SETUP,
        "The database {path} is damaged or not ours ({why}).",
        "Move it aside and restore it from a backup; nothing was changed.",
    ),
    "STORE_MISSING": ErrorSpec(
        Kind.SETUP,
        "The database {path} is gone though the data folder is in use.",
        "Restore it from a backup, or move the whole data folder aside to begin anew.",
    ),
    "DATA_IN_USE": ErrorSpec(
        Kind.SETUP,
        "Another gateway runs on the data folder {path}.",
        "Stop it, or set BEDSIDE_DATA to another folder.",
    ),
    "STORE_UNAVAILABLE": ErrorSpec(
        Kind.UNAVAILABLE,
        "The database can't be written just now ({why}).",
        "Make room on the disk, then try again.",
    ),
    "STORE_TOO_NEW": ErrorSpec(
        Kind.SETUP,
        "The database {path} was made by a newer bedside ({revision}).",
        "Run that version, or restore an older backup.",
    ),
    "KEY_MISSING": ErrorSpec(
        Kind.SETUP,
        "The key file {path} is missing though the data folder is in use.",
        "Restore it from a backup; if it is lost, 'bedside keys new {name}' makes another and says what that costs.",
    ),
    "KEY_UNSAFE": ErrorSpec(
        Kind.SETUP,
        "The key file {path} {why}.",
        "Restore it, or make it readable by its owner only: chmod 600.",
    ),
    "PORT_IN_USE": ErrorSpec(
        Kind.SETUP,
        "Port {port} on {host} can't be used: {why}.",
        "Stop what uses it, or set BEDSIDE_PORT or BEDSIDE_HOST to another.",
    ),
    "FILE_UNREADABLE": ErrorSpec(Kind.SETUP, "The file {path} can't be read: {why}.", "Check its name and its rights."),
    # Getting a model
    "MODEL_NAME_INVALID": ErrorSpec(
        Kind.INVALID,
        "That is no model name.",
        "Use MODEL:TAG with small letters, digits, dots, dashes and underscores, such as mistral:7b.",
    ),
    "MODEL_EXISTS": ErrorSpec(
        Kind.CONFLICT,
        "The name {name} is in use for another file (sha256 {digest}).",
        "Choose another name, or first: bedside models remove {name}",
    ),
    "MODEL_FILE_WRONG": ErrorSpec(
        Kind.SETUP,
        "{path} is not the file that the catalogue knows as {name} ({why}).",
        "Get a clean copy, or add it under a name of your own.",
    ),
    "MODELS_FOLDER": ErrorSpec(
        Kind.SETUP,
        "The models folder {path} can't be used: {why}.",
        "Make it writable for this user, or set BEDSIDE_MODELS_DIR.",
    ),
    "SOURCE_NOT_ALLOWED": ErrorSpec(
        Kind.SETUP,
        "{name} would have to be downloaded, and with HIPAA_MODE=true only local sources are used.",
        "Give permission for this one download with --allow-download, or bring the file: "
        "bedside models add {name} FILE",
    ),
    "SOURCE_NONE": ErrorSpec(Kind.SETUP, "The catalogue knows no file source for {name}.", "{command}"),
    "DOWNLOAD_FAILED": ErrorSpec(
        Kind.SETUP,
        "{name} could not be fetched from any source: {why}.",
        "What arrived is kept: run the same command again to go on. Behind a proxy, set pip's own settings.",
    ),
    "DOWNLOAD_WRONG": ErrorSpec(
        Kind.SETUP,
        "What {source} sent for {name} is not the file that was asked for ({why}).",
        "It was thrown away. Try another source or a clean copy.",
    ),
    "DISK_FULL": ErrorSpec(
        Kind.SETUP,
        "There is no room in {path}: {needed} needed, {free} free.",
        "Make room, then run the same command again.",
    ),
    "GGUF_INVALID": ErrorSpec(Kind.SETUP, "{path} is no GGUF model that can be loaded: {why}.", "Get a clean copy."),
    "COMMAND_WRONG": ErrorSpec(
        Kind.SETUP, "{why}", "'bedside --help' and 'bedside COMMAND --help' show what is known."
    ),
    "COMMAND_FAILED": ErrorSpec(
        Kind.INTERNAL,
        "The command failed in a way that was not foreseen ({what}).",
        "Run it again with --debug to see where, and report that.",
    ),
    "INTERNAL": ErrorSpec(
        Kind.INTERNAL,
        "Something went wrong inside bedside.",
        "It was not your request. Give the request id to whoever looks after this machine.",
    ),
}


class BedsideError(Exception):
    """An error with a code from ``ERRORS`` and the facts its sentence needs.

    ``str(error)`` is cause and cure in one line. ``retry_after`` is in seconds, where waiting helps.
    """

    def __init__(self, code: str, *, retry_after: int | None = None, **facts: object) -> None:
        spec = ERRORS[code]
        self.code = code
        self.kind = spec.kind
        self.cause = spec.message.format(**facts)
        self.cure = spec.cure.format(**facts)
        self.retry_after = retry_after
        super().__init__(f"{self.cause} {self.cure}")
