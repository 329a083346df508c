"""The gateway's end of the H.248 association: link, text encoding, and what does not parse."""

import ssl
from collections.abc import Callable

from agw.core import events
from agw.settings import Settings
from imskit.contexts import client_context
from imskit.links import LinkClient
from imskit.logs import get_logger
from imskit.sockets import address_text, parse_endpoint
from imswire.base import ProtocolError
from imswire.h248.errors import H248Error, error_answer
from imswire.h248.model import Message
from imswire.h248.parser import parse
from imswire.h248.writer import write

log = get_logger("agw.control")


class ControlLink:
    """Carries :class:`Message` values between the engine and the controller.

    ``post`` takes ControlUp, ControlDown, FromController and BadFromController. Raises LinkRefused (a SettingsError)
    for a controller that is neither local nor authenticated, TlsConfigError for certificates that cannot be used.
    """

    def __init__(self, settings: Settings, mid: str, post: Callable[[events.Event], None]) -> None:
        self._mid = mid
        self._post = post
        self._limit = settings.limits.message
        self._pretty = settings.agw.pretty
        self._link = 0
        endpoint = parse_endpoint(settings.agw.controller)
        self._client = LinkClient(
            endpoint,
            on_up=self._up,
            on_message=self._message,
            on_down=self._down,
            tls=_tls(settings) if endpoint.scheme == "tls" else None,
            server_name=settings.agw.server_name,
            insecure=settings.agw.insecure,
            message_limit=self._limit,
        )

    def connect(self) -> None:
        """Start one attempt; ControlUp or ControlDown follows."""
        self._link = self._client.connect()

    def disconnect(self, reason: str) -> None:
        """Close the link; ControlDown follows if there was one."""
        self._client.close(reason)

    def send(self, message: Message) -> None:
        """Write and send one message. One that the grammar or the transport cannot carry is a bug and is logged."""
        try:
            payload = write(message, pretty=self._pretty)
            if not self._client.send(self._link, payload):
                log.debug("message not sent, no link")
        except ProtocolError as error:
            log.error("message to the controller cannot be written", error=str(error), message=repr(message)[:400])

    def _up(self, link: int, peer: tuple[str, int]) -> None:
        self._post(events.ControlUp(address_text(peer), self._client.reliable))

    def _down(self, link: int, reason: str) -> None:
        self._post(events.ControlDown(reason))

    def _message(self, link: int, payload: bytes) -> None:
        try:
            message = parse(payload, self._limit)
        except H248Error as fault:
            if fault.parsed is not None and fault.parsed.transactions:
                self._post(events.FromController(fault.parsed))
            self._post(events.BadFromController(str(fault), error_answer(fault, self._mid)))
        except ProtocolError as fault:
            self._post(events.BadFromController(str(fault), None))
        else:
            self._post(events.FromController(message))


def _tls(settings: Settings) -> ssl.SSLContext:
    agw = settings.agw
    return client_context(ca=agw.ca, certificate=agw.certificate, key=agw.key)
