"""A place in the tokens of a message, with the reads that every production shares and the making of errors."""

from typing import Final, NoReturn

from imswire.h248.errors import H248Error
from imswire.h248.lexer import MID, Lexed, offset_of, swallowed
from imswire.h248.model import Parameter
from imswire.h248.tokens import Keywords

_SAFE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-&!_/'?@^`~*$\\()%|.")
_LEGAL: Final = _SAFE | frozenset("{}[],:=#<>")
UINT16: Final = 0xFFFF
UINT32: Final = 0xFFFFFFFF


class Cursor:
    """``tokens`` and the index ``at`` of the next one. ``level`` is the code of a syntax error at this depth of the
    message: 400 message, 403 transaction, 422 action, 442 command (RFC 3525 8.2.2)."""

    __slots__ = ("at", "level", "lexed", "tokens")

    def __init__(self, lexed: Lexed) -> None:
        self.lexed = lexed
        self.tokens = lexed.tokens
        self.at = 0
        self.level = 400

    def fail(self, wanted: str, code: int = 0) -> NoReturn:
        """Raise :class:`H248Error`: ``wanted`` was expected where the cursor stands."""
        seen = self.tokens[self.at][:40] or "the end"
        raise H248Error(code or self.level, f"{wanted} expected, {seen} seen", offset_of(self.lexed, self.at))

    def refuse(self, code: int, hint: str) -> NoReturn:
        """Raise :class:`H248Error` with this code and hint for what the cursor has just passed."""
        raise H248Error(code, hint, offset_of(self.lexed, max(0, self.at - 1)))

    def take(self, sign: str) -> None:
        """Pass over a sign."""
        if self.tokens[self.at] != sign:
            self.fail(sign)
        self.at += 1

    def maybe(self, sign: str) -> bool:
        """Pass over a sign if it stands here."""
        if self.tokens[self.at] == sign:
            self.at += 1
            return True
        return False

    def more(self) -> bool:
        """After an element of a braced list: True past a comma, False past the closing brace."""
        token = self.tokens[self.at]
        if token == ",":
            self.at += 1
            return True
        if token != "}":
            self.fail(", or }")
        self.at += 1
        return False

    def word(self, wanted: str = "a name") -> str:
        """A run of SafeChars."""
        token = self.tokens[self.at]
        if not token or token[0] not in _SAFE or token[-1] == "}":
            self.fail(wanted)
        self.at += 1
        return token

    def equal_word(self, wanted: str) -> str:
        """``=`` and a run of SafeChars."""
        token = self.tokens[self.at]
        if token == "=":
            self.at += 1
            return self.word(wanted)
        if not token.startswith("="):
            self.fail("=")
        self.at += 1
        return swallowed(token)

    def number(self, largest: int = UINT32) -> int:
        """A decimal number up to ``largest``."""
        token = self.tokens[self.at]
        if not (token.isdigit() and token.isascii() and len(token) <= 10) or (value := int(token)) > largest:
            self.fail(f"a number up to {largest}")
        self.at += 1
        return value

    def equal_number(self, largest: int = UINT32) -> int:
        """``=`` and a decimal number."""
        self.take("=")
        return self.number(largest)

    def keyword(self, table: Keywords, wanted: str) -> str:
        """A token of this production, as its long form."""
        found = table.find(self.tokens[self.at])
        if not found:
            self.fail(wanted)
        self.at += 1
        return found

    def value(self) -> str:
        """A VALUE: a run of SafeChars, or a quoted string, given without its quotes."""
        token = self.tokens[self.at]
        if len(token) > 1 and token[0] == '"':
            self.at += 1
            return token[1:-1]
        return self.word("a value")

    def parameter(self, name: str) -> Parameter:
        """parmValue for ``name``: a value, ``[a, b]``, ``{a, b}`` or ``[a:b]``, or an inequality with one value."""
        relation = self.tokens[self.at]
        if relation in ("#", "<", ">"):
            self.at += 1
            return Parameter(name, self.value(), relation)
        self.take("=")
        token = self.tokens[self.at]
        if token == "[":
            return self._listed(name, "]", "and")
        if token == "{":
            return self._listed(name, "}", "or")
        return Parameter(name, self.value())

    def _listed(self, name: str, end: str, listing: str) -> Parameter:
        self.at += 1
        values = [self.value()]
        if end == "]" and self.maybe(":"):
            values.append(self.value())
            self.take("]")
            return Parameter(name, tuple(values), listing="range")
        while self.maybe(","):
            values.append(self.value())
        self.take(end)
        return Parameter(name, tuple(values), listing=listing)

    def raw(self) -> str:
        """The tokens up to the comma or brace that ends this element, nested groups whole, joined by spaces."""
        depth = 0
        start = self.at
        while True:
            token = self.tokens[self.at]
            if token in ("{", "["):
                depth += 1
            elif not token:
                self.fail("}")
            elif depth == 0 and token in (",", "}", "]"):
                return self._joined(start, self.at)
            elif token in ("}", "]"):
                depth -= 1
            self.at += 1

    def body(self) -> str:
        """``{ ... }``: the tokens between the braces, joined by spaces."""
        self.take("{")
        depth = 1
        start = self.at
        while depth:
            token = self.tokens[self.at]
            if token == "{":
                depth += 1
            elif token == "}":
                depth -= 1
            elif not token:
                self.fail("}")
            self.at += 1
        return self._joined(start, self.at - 1)

    def _joined(self, start: int, end: int) -> str:
        """Tokens that stay unread; a sign that no token may hold is refused here since nobody else will see it."""
        kept = self.tokens[start:end]
        for offset, token in enumerate(kept):
            if token[0] not in _LEGAL and not (len(token) > 1 and token[0] == '"'):
                self.at = start + offset
                self.fail("a token")
        return " ".join(kept)

    def identity(self) -> str:
        """An mId or a port, up to the comma or brace that ends the element."""
        start = self.at
        if self.tokens[start].lower() == "mtp" and self.tokens[start + 1] == "{":
            return self._mid(start, f"{self.word()}{{{self.body()}}}")
        while self.tokens[self.at] not in (",", "{", "}", "=", ""):
            self.at += 1
        if self.at == start:
            self.fail("an mId")
        return self._mid(start, "".join(self.tokens[start : self.at]))

    def _mid(self, start: int, text: str) -> str:
        if not MID.fullmatch(text):
            self.at = start
            self.fail("an mId or a port")
        return text
