"""Logs: one structlog configuration for the daemons, text for people or JSON lines for machines."""

import logging
import sys
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]


def get_logger(name: str, **context: Any) -> FilteringBoundLogger:
    """A logger that carries its ``name`` and ``context`` with every line; cheap below the configured level."""
    return cast(FilteringBoundLogger, structlog.get_logger(component=name, **context))


def configure(level: Level = "info", format: Format = "text", stream: TextIO | None = None) -> None:
    """Set up logging for the process; lines go to ``stream`` (standard error by default).

    What the standard library and its users log (event loop, TLS) takes the same way out, in the same shape.
    """
    out = stream if stream is not None else sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Processor]
    if format == "json":
        renderer = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=repr)]
    else:
        renderer = [structlog.dev.ConsoleRenderer(colors=out.isatty())]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        # Cached loggers keep their stream: right for a process, wrong for a test that gives a stream of its own.
        cache_logger_on_first_use=stream is None,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.INFO))
