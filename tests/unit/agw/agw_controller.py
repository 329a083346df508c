"""A controller that is played by a test: accepts gateways, sends transactions, waits for replies. Real links."""

import asyncio
from typing import Any

from imskit.links import LinkServer
from imskit.sockets import Endpoint
from imswire.h248.model import Action, Command, Message, TransactionReply, TransactionRequest
from imswire.h248.parser import parse
from imswire.h248.writer import write

DEADLINE = 15.0


class Controller:
    """``changes`` gathers (mid, ServiceChange method); ``gateways`` maps mId to its link."""

    def __init__(self, scheme: Any = "tcp", port: int = 0) -> None:
        self.changes: list[tuple[str, str]] = []
        self.gateways: dict[str, int] = {}
        self.notified: list[Command] = []
        self.errors: list[int] = []
        self._replies: dict[int, TransactionReply] = {}
        self._changed = asyncio.Event()
        self._tid = 0
        self.server = LinkServer(
            Endpoint(scheme, "127.0.0.1", port), on_up=self._up, on_message=self._message, on_down=self._down
        )
        self.port = self.server.address[1]

    def _up(self, link: int, peer: Any) -> None:
        self._changed.set()

    def _down(self, link: int, reason: str) -> None:
        self.gateways = {mid: known for mid, known in self.gateways.items() if known != link}
        self._changed.set()

    def _message(self, link: int, payload: bytes) -> None:
        message = parse(payload)
        if message.error is not None:
            self.errors.append(message.error.code)
        for transaction in message.transactions:
            if isinstance(transaction, TransactionReply):
                self._replies[transaction.id] = transaction
                if transaction.error is not None:
                    self.errors.append(transaction.error.code)
            elif isinstance(transaction, TransactionRequest):
                self._request(link, message.mid, transaction)
        self._changed.set()

    def _request(self, link: int, mid: str, request: TransactionRequest) -> None:
        answers = []
        for action in request.actions:
            for command in action.commands:
                if command.service_change is not None:
                    self.changes.append((mid, command.service_change.method or ""))
                    self.gateways[mid] = link
                else:
                    self.notified.append(command)
            answers.append(Action(action.context, tuple(Command(c.name, c.termination) for c in action.commands)))
        self.server.send(link, write(Message("mgc", (TransactionReply(request.id, tuple(answers)),))))

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def request(self, mid: str, *actions: Action) -> TransactionReply:
        self._tid += 1
        tid = self._tid
        self.server.send(self.gateways[mid], write(Message("mgc", (TransactionRequest(tid, actions),))))
        await self.until(lambda: tid in self._replies)
        return self._replies[tid]

    def close(self) -> None:
        self.server.close()
