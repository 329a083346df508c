"""Reliable provisional responses (RFC 3262), both sides."""

import asyncio
import secrets
from collections.abc import Callable

from imswire.sip.message import Request, Response

_T1 = 0.5


class ReliableSender:
    """Repeats a provisional response until its PRACK comes; one at a time (RFC 3262 3)."""

    def __init__(self, send: Callable[[Response], None], give_up: Callable[[], None]) -> None:
        self._send = send
        self._give_up = give_up
        self._rseq = secrets.randbelow(1 << 20) + 1
        self._waiting: tuple[Response, str] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.done: asyncio.Future[None] | None = None

    def send(self, response: Response) -> None:
        """Number the response, send it and go on until it is acknowledged."""
        self.stop()
        self._rseq += 1
        response.headers.set("Require", "100rel")
        response.headers.set("RSeq", str(self._rseq))
        cseq = response.cseq
        self._waiting = (response, f"{self._rseq} {cseq.number} {cseq.method}")
        self.done = asyncio.get_running_loop().create_future()
        self._repeat(_T1)

    def acknowledged(self, prack: Request) -> bool:
        """Take a PRACK; False where its RAck fits nothing (481)."""
        if self._waiting is None or " ".join((prack.headers.get("rack") or "").split()) != self._waiting[1]:
            return False
        self.stop()
        if self.done is not None and not self.done.done():
            self.done.set_result(None)
        return True

    def stop(self) -> None:
        """Repeat no more."""
        self._waiting = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _repeat(self, wait: float) -> None:
        if self._waiting is None:
            return
        if wait > 64 * _T1:
            self.stop()
            self._give_up()
            return
        self._send(self._waiting[0])
        self._timer = asyncio.get_running_loop().call_later(wait, self._repeat, wait * 2)


class ReliableReceiver:
    """Which provisional responses are new and in order, per early dialog (RFC 3262 4)."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def rack(self, response: Response) -> str | None:
        """The RAck for the PRACK that the response wants; None where it wants none or was seen."""
        required = {one.strip().lower() for one in response.headers.values("require")}
        number = (response.headers.get("rseq") or "").strip()
        if "100rel" not in required or not (number.isascii() and number.isdigit() and len(number) <= 10):
            return None
        tag, rseq = response.to_tag or "", int(number)
        last = self._last.get(tag)
        if last is not None and rseq != last + 1:
            return None
        self._last[tag] = rseq
        return f"{rseq} {response.cseq.number} {response.cseq.method}"
