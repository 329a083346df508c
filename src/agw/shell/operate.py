"""What an operator orders a worker to do over its admin socket: new certificates, a log of TLS secrets, rest."""

from collections.abc import Callable, Mapping
from pathlib import Path

from agw.core.engine import AgwEngine
from agw.core.model import Tls
from agw.shell.show import ask_all
from imskit.admin import AdminError, Handler, Query
from imskit.tls import TlsConfigError


def orders_of(
    engine: AgwEngine,
    rotate: Callable[[], None],
    log_keys: Callable[[int, str], None],
    expiry: Callable[[], Mapping[str, float]],
    rest: Callable[[bool], None],
) -> Mapping[str, Handler]:
    """The commands of a worker's admin socket that change something."""

    def new_certificates(_: Query) -> object:
        try:
            rotate()
        except TlsConfigError as error:
            raise AdminError(f"{engine.mid}: certificates are not replaced: {error}") from None
        return {"gateway": engine.mid, "certificate_expiry": dict(expiry())}

    def key_log(query: Query) -> object:
        number = int(query.id) if query.id.isascii() and query.id.isdecimal() else 0
        context = engine.store.contexts.get(number)
        if context is None:
            raise AdminError(f"no context {query.id!r} at {engine.mid}")
        if not Path(query.file).is_absolute():
            raise AdminError(f"'file' is {query.file[:200]!r}, expected an absolute path")
        guarded = [leg for leg in context.legs if leg.request.tls]
        if not guarded:
            raise AdminError(f"context {number} at {engine.mid} has no TLS")
        try:
            log_keys(number, query.file)
        except OSError as error:
            raise AdminError(f"{query.file}: {error.strerror}") from None
        begun = any(leg.tls is not Tls.NONE for leg in guarded)
        return {"gateway": engine.mid, "context": number, "file": query.file, "begun": begun}

    def order_rest(wanted: bool) -> Handler:
        def handler(_: Query) -> object:
            rest(wanted)
            return {"gateway": engine.mid, "draining": wanted, "contexts": len(engine.store.contexts)}

        return handler

    return {
        "rotate": new_certificates,
        "keylog": key_log,
        "drain": order_rest(True),
        "undrain": order_rest(False),
    }


def rest_all(socket: Path, wanted: bool, mid: str = "") -> list[str]:
    """Drain (or undrain) every worker, or the one that is called ``mid``; what to tell the operator. Raises
    :class:`AdminError`."""
    answers, problems = ask_all(socket, Query("drain" if wanted else "undrain"), mid)
    if problems and not mid:
        raise AdminError("\n".join(problems))
    if not wanted:
        return [f"{answer['gateway']}: takes new sessions" for answer in answers]
    return [f"{answer['gateway']}: takes nothing new; contexts that go on: {answer['contexts']}" for answer in answers]


def rotate_all(socket: Path) -> list[str]:
    """Let every worker read its certificates again; what to tell the operator. Raises :class:`AdminError`."""
    answers, problems = ask_all(socket, Query("rotate"))
    if problems:
        raise AdminError("\n".join(problems))
    return [f"{answer['gateway']}: new sessions get the certificates that are there now" for answer in answers]


def log_keys_of(socket: Path, id: str, file: Path) -> list[str]:
    """Log the TLS secrets of a context (``agw-1/4``, or a number for all workers that have it); what to tell the
    operator. Raises :class:`AdminError`."""
    mid, _, number = id.rpartition("/")
    answers, problems = ask_all(socket, Query("keylog", number, file=str(file.absolute())), mid)
    if not answers:
        raise AdminError("\n".join(problems))
    lines = []
    for answer in answers:
        name = f"{answer['gateway']}/{answer['context']}"
        lines.append(f"{name}: TLS secrets go to {answer['file']}; whoever reads them reads the media")
        if answer["begun"]:
            lines.append("  TLS of it has begun already: only a connection that is made anew is logged")
    return lines
