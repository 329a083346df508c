"""Registration information (RFC 3680): ``application/reginfo+xml`` read with bounds, and written.

The reader is expat with everything switched off that lets a small document grow or reach out: a DOCTYPE is refused, so
that there are no entities; size, depth and number of elements are bounded. What the schema does not know is skipped.
"""

from html import escape
from typing import NoReturn
from xml.parsers import expat

from msgspec import Struct

from imswire.base import LimitExceeded, ProtocolError

CONTENT_TYPE = "application/reginfo+xml"
NAMESPACE = "urn:ietf:params:xml:ns:reginfo"
REGISTRATION_STATES = frozenset({"init", "active", "terminated"})
CONTACT_STATES = frozenset({"active", "terminated"})

OCTETS = 131_072
"""Octets of a document."""
ELEMENTS = 4_096
DEPTH = 16


class ContactInfo(Struct, frozen=True):
    """One contact: ``state`` active or terminated, ``event`` what brought it there (RFC 3680 5.1), times in seconds."""

    uri: str
    state: str
    event: str
    id: str = ""
    expires: int | None = None
    retry_after: int | None = None


class RegistrationInfo(Struct, frozen=True):
    """One address of record with the contacts that the document tells of; ``state`` init, active or terminated."""

    aor: str
    id: str
    state: str
    contacts: tuple[ContactInfo, ...] = ()


class RegInfo(Struct, frozen=True):
    """A document; ``full`` tells the whole state, else only what changed since ``version`` - 1."""

    version: int
    full: bool
    registrations: tuple[RegistrationInfo, ...] = ()


def parse_reginfo(data: bytes) -> RegInfo:
    """Read a document; raises ProtocolError ``sip.reginfo`` or LimitExceeded ``sip.reginfo-size``."""
    if len(data) > OCTETS:
        raise LimitExceeded("sip.reginfo-size", f"a reginfo document of {len(data)} octets, {OCTETS} are taken at most")
    reader = _Reader()
    try:
        reader.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ProtocolError("sip.reginfo", f"not well-formed XML: {error}") from None
    return reader.result()


class _Reader:
    """Gathers what the elements say, in order."""

    def __init__(self) -> None:
        parser = self.parser = expat.ParserCreate(namespace_separator=" ")
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = self._doctype
        parser.EntityDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.buffer_text = True
        self._path: list[str] = []
        self._count = 0
        self._root: tuple[int, bool] | None = None
        self._registrations: list[RegistrationInfo] = []
        self._registration: dict[str, str] = {}
        self._contacts: list[ContactInfo] = []
        self._contact: dict[str, str] = {}
        self._uri: list[str] = []

    def result(self) -> RegInfo:
        """The document; raises ProtocolError when there was none."""
        if self._root is None:
            raise ProtocolError("sip.reginfo", f"the document is no reginfo of {NAMESPACE}")
        return RegInfo(self._root[0], self._root[1], tuple(self._registrations))

    def _doctype(self, *_: object) -> NoReturn:
        raise ProtocolError("sip.reginfo", "a document type declaration is not taken")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > ELEMENTS or len(self._path) >= DEPTH:
            raise LimitExceeded("sip.reginfo-size", f"more than {ELEMENTS} elements, or deeper than {DEPTH}")
        namespace, _, local = name.rpartition(" ")
        self._path.append(local if namespace == NAMESPACE else "")
        match self._path:
            case ["reginfo"]:
                self._root = _number(attributes, "version", 2**31 - 1), _choice(attributes, _DOCUMENT) == "full"
            case ["reginfo", "registration"]:
                self._registration, self._contacts = attributes, []
            case ["reginfo", "registration", "contact"]:
                self._contact, self._uri = attributes, []

    def _text(self, text: str) -> None:
        if self._path == ["reginfo", "registration", "contact", "uri"]:
            self._uri.append(text)

    def _end(self, _: str) -> None:
        match self._path:
            case ["reginfo", "registration", "contact"]:
                self._contacts.append(
                    ContactInfo(
                        "".join(self._uri).strip(),
                        _choice(self._contact, CONTACT_STATES),
                        self._contact.get("event", ""),
                        self._contact.get("id", ""),
                        _optional(self._contact, "expires"),
                        _optional(self._contact, "retry-after"),
                    )
                )
            case ["reginfo", "registration"]:
                registration = self._registration
                if "aor" not in registration:
                    raise ProtocolError("sip.reginfo", "a registration without aor")
                state = _choice(registration, REGISTRATION_STATES)
                self._registrations.append(
                    RegistrationInfo(registration["aor"], registration.get("id", ""), state, tuple(self._contacts))
                )
        self._path.pop()


_DOCUMENT = frozenset({"full", "partial"})


def _choice(attributes: dict[str, str], allowed: frozenset[str]) -> str:
    value = attributes.get("state", "")
    if value not in allowed:
        raise ProtocolError("sip.reginfo", f"state is {value[:40]!r}, expected one of {', '.join(sorted(allowed))}")
    return value


def _number(attributes: dict[str, str], name: str, most: int) -> int:
    text = attributes.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise ProtocolError("sip.reginfo", f"{name} is {text[:40]!r}, a number was expected")
    return min(int(text), most)


def _optional(attributes: dict[str, str], name: str) -> int | None:
    return _number(attributes, name, 2**32 - 1) if name in attributes else None


def write_reginfo(info: RegInfo) -> bytes:
    """The document as octets, UTF-8."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<reginfo xmlns="{NAMESPACE}" version="{info.version}" state="{"full" if info.full else "partial"}">',
    ]
    for one in info.registrations:
        lines.append(f'<registration aor="{escape(one.aor)}" id="{escape(one.id)}" state="{one.state}">')
        for contact in one.contacts:
            extra = f' expires="{contact.expires}"' if contact.expires is not None else ""
            extra += f' retry-after="{contact.retry_after}"' if contact.retry_after is not None else ""
            marks = f'id="{escape(contact.id)}" state="{contact.state}" event="{escape(contact.event)}"{extra}'
            lines.append(f"<contact {marks}><uri>{escape(contact.uri)}</uri></contact>")
        lines.append("</registration>")
    lines.append("</reginfo>")
    return "\r\n".join(lines).encode() + b"\r\n"
