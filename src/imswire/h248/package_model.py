"""What a package of H.248 consists of (RFC 3525 12.1): the rows of the table in :mod:`imswire.h248.packages`."""

from enum import StrEnum

from msgspec import Struct


class Kind(StrEnum):
    """What an item of a package is."""

    PROPERTY = "property"
    EVENT = "event"
    SIGNAL = "signal"
    STATISTIC = "statistic"


class Type(StrEnum):
    """Type of a value (RFC 3525 12.2); a string is always quoted on the wire."""

    NONE = "none"
    STRING = "string"
    INTEGER = "integer"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    ENUMERATION = "enumeration"


class Argument(Struct, frozen=True):
    """A parameter of an event or a signal; ``values`` are the legal ones of an enumeration."""

    name: str
    type: Type
    values: tuple[str, ...] = ()


class Item(Struct, frozen=True):
    """One property, event, signal or statistic; ``name`` is the part after the slash."""

    kind: Kind
    name: str
    type: Type = Type.NONE
    values: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()
    meaning: str = ""
    verified: bool = True


class Package(Struct, frozen=True):
    """One package: ``source`` says where it is defined and, if not ``verified``, why the names could not be checked."""

    id: str
    version: int
    title: str
    source: str
    items: tuple[Item, ...]
    verified: bool = True
