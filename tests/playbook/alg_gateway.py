"""A scripted media gateway for playbooks: it announces itself, and answers transactions when the test lets it."""

from collections import deque

from tests.playbook.alg_harness import Book

from imsalg.core.media_events import FromGateway, GatewayUp, ToGateway
from imswire.h248 import iq
from imswire.h248.model import (
    CHOOSE_CONTEXT,
    Action,
    Command,
    ErrorDescriptor,
    Message,
    TransactionReply,
    TransactionRequest,
)

MID = "agw-1"
FINGERPRINT: iq.Fingerprint = ("sha-256", bytes(range(32)))


class Gateway:
    """The far end of one H.248 link of ``book``. ``requests`` are the transactions that wait for :meth:`answer`.

    ``before`` is the same gateway on an earlier link, whose contexts it still has.
    """

    def __init__(self, book: Book, link: int = 1, before: "Gateway | None" = None) -> None:
        self.book = book
        self.link = link
        self.requests: deque[TransactionRequest] = deque()
        self.seen: list[str] = []
        self.held: set[int] = set(before.held) if before is not None else set()
        self._contexts: int = before._contexts if before is not None else 0
        self._ports: int = before._ports if before is not None else 20_000
        self._own = 100
        book.feed(GatewayUp(link, "127.0.0.1:40000"))
        announced = iq.registration() if before is None else iq.registration(method="Disconnected")
        self._send(TransactionRequest(1, (announced,)))
        self.take()
        while self.requests:
            self.answer()
        self.seen.clear()

    def take(self) -> None:
        """Take over what the engine has sent to this link."""
        rest = []
        for command in self.book.other:
            if isinstance(command, ToGateway) and command.link == self.link:
                for transaction in command.message.transactions:
                    if isinstance(transaction, TransactionRequest):
                        self.requests.append(transaction)
                        self.seen += [one.name for action in transaction.actions for one in action.commands]
            else:
                rest.append(command)
        self.book.other = rest

    def answer(self, error: int | None = None) -> list[Command]:
        """Answer the oldest transaction; returns its commands. ``error`` refuses it with that code."""
        self.take()
        request = self.requests.popleft()
        if error is not None:
            actions = tuple(Action(a.context, error=ErrorDescriptor(error, "scripted")) for a in request.actions)
        else:
            actions = tuple(self._reply(action) for action in request.actions)
            if request.actions == (iq.audit_contexts(),):
                actions = iq.audit_contexts_reply(sorted(self.held))
        self._send(TransactionReply(request.id, actions))
        return [command for action in request.actions for command in action.commands]

    def notify(self, context: int, termination: str, failure: iq.MediaFailure) -> None:
        """Report a media failure of a termination."""
        self._own += 1
        command = iq.to_notify(termination, failure, 1)
        self._send(TransactionRequest(self._own, (Action(context, (command,)),)))

    def _reply(self, action: Action) -> Action:
        context = action.context
        if context == CHOOSE_CONTEXT:
            self._contexts += 1
            context = self._contexts
            self.held.add(context)
        if any(command.name == "Subtract" for command in action.commands):
            self.held.discard(context)
        return Action(context, tuple(self._command(command, context, n) for n, command in enumerate(action.commands)))

    def _command(self, command: Command, context: int, index: int) -> Command:
        if command.name == "Add":
            request = iq.read_add(command)
            self._ports += 1
            wanted = FINGERPRINT if request.fingerprint_hash else None
            return iq.add_reply(iq.AddResult(f"T{context}-{index}", "10.5.0.1", self._ports, wanted), request)
        if command.name == "Modify":
            return iq.modify_reply(command.termination)
        return Command(command.name, command.termination)

    def _send(self, transaction: TransactionRequest | TransactionReply) -> None:
        self.book.feed(FromGateway(self.link, Message(MID, (transaction,))))
        self.take()
