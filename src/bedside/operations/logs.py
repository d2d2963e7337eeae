"""The program's own log: one line per request, never a prompt, an answer or a patient.

Lines are made from fixed words and the fields named at the call; nothing that a caller sent is ever handed
in. Third-party loggers are kept to warnings, without their arguments.
"""

import contextlib
import logging
import sys
from typing import Any, TextIO, cast

import structlog


def set_up_logs(form: str, stream: TextIO = sys.stderr) -> None:
    """``form``: json, text, or auto (text on a terminal, JSON in service)."""
    as_text = form == "text" or (form == "auto" and stream.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
        if as_text
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _Tolerant(stream))),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Quiet()], level=logging.WARNING, force=True)


class _Tolerant:
    """A stream that can be full or gone without taking the work down with it: the audit log is the one that
    must be written, this one is a convenience."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


class _Quiet(logging.Handler):
    """What libraries log: where and what kind, but not the words, which may hold a caller's text."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        place = f"{record.module}:{record.lineno}"
        structlog.get_logger().warning("library", source=record.name, place=place, exception=kind)
