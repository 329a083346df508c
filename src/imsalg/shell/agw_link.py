"""The door for H.248: bytes of gateway links become events, ToGateway commands become bytes."""

import ssl
from collections.abc import Callable

from imsalg.core.events import Event
from imsalg.core.media_events import BadFromGateway, FromGateway, GatewayDown, GatewayUp, ToGateway
from imsalg.settings import GatewaySettings
from imsalg.shell.tally import H248Tally
from imskit.contexts import server_context
from imskit.links import LinkServer
from imskit.logs import get_logger
from imskit.sockets import Address, address_text, parse_endpoint
from imswire.base import ProtocolError
from imswire.h248.errors import H248Error
from imswire.h248.parser import parse
from imswire.h248.writer import write

log = get_logger("imsalg.agw_link")

SYNTAX_ERROR = 400
"""H.248.8: syntax error in message."""


class GatewayDoor:
    """The listening side of the H.248 links; raises LinkRefused and OSError from the constructor.

    What comes in goes to ``post``; the owner may set another one.
    """

    def __init__(self, settings: GatewaySettings, post: Callable[[Event], None]) -> None:
        self.post = post
        self.tally = H248Tally()
        self._pretty = settings.pretty
        self.bad_messages = 0
        tls = None
        if settings.certificate and settings.key:
            tls = server_context(settings.certificate, settings.key, client_ca=settings.ca)
        self._server = LinkServer(
            parse_endpoint(settings.listen),
            on_up=self._up,
            on_message=self._message,
            on_down=self._down,
            tls=tls,
            insecure=settings.insecure,
        )

    @property
    def address(self) -> Address:
        """The real address."""
        return self._server.address

    def _up(self, link: int, peer: Address) -> None:
        self.post(GatewayUp(link, address_text(peer), self._server.reliable))

    def _down(self, link: int, reason: str) -> None:
        self.post(GatewayDown(link, reason))

    def _message(self, link: int, payload: bytes) -> None:
        try:
            message = parse(payload)
        except H248Error as error:
            self.bad_messages += 1
            if error.parsed is not None and error.parsed.transactions:  # they are independent (RFC 3525 8.3)
                self.tally.came(error.parsed)
                self.post(FromGateway(link, error.parsed))
            self.post(BadFromGateway(link, error.code, error.hint, error.transaction_id, error.answerable))
            return
        except ProtocolError as error:
            self.bad_messages += 1
            self.post(BadFromGateway(link, SYNTAX_ERROR, error.hint or error.reason))
            return
        self.tally.came(message)
        self.post(FromGateway(link, message))

    def send(self, command: ToGateway) -> None:
        """Write one message; a link that cannot take it any more reports its end by itself.

        One that the grammar or the transport cannot carry is a bug and is logged; its transaction runs out of time.
        """
        self.tally.went(command.message)
        try:
            if not self._server.send(command.link, write(command.message, pretty=self._pretty)):
                log.info("H.248 message not sent", link=command.link)
        except ProtocolError as error:
            log.error("H.248 message cannot be written", error=str(error), message=repr(command.message)[:400])

    def set_tls(self, context: ssl.SSLContext) -> None:
        """The certificate for links that come from now on."""
        self._server.set_tls(context)

    def close_link(self, link: int, reason: str) -> None:
        """End one link."""
        self._server.close_link(link, reason)

    def close(self) -> None:
        """End all links and stop listening."""
        self._server.close()
