"""The transactions that live, and the ways to find them: by key, by message, by the connection that they rely on."""

from collections.abc import Iterable

from imswire.sip.flow import Flow
from imswire.sip.message import Message, Request
from imswire.sip.transaction_rules import Transaction, branch_of, peer, sent_by
from imswire.sip.transaction_types import ClientKey, ServerKey


class Living:
    """All transactions of one layer.

    ``clients`` has those of all methods but CANCEL by their branches, which are ours: no two requests have the same
    one, except for a CANCEL, which has that of its INVITE (RFC 3261 9.1) and is in ``cancels``.
    """

    __slots__ = ("_by_peer", "cancels", "clients", "count", "servers")

    def __init__(self) -> None:
        self.count = 0  # of all three together
        self.clients: dict[str, Transaction] = {}
        self.cancels: dict[str, Transaction] = {}
        self.servers: dict[ServerKey, Transaction] = {}
        self._by_peer: dict[tuple[str, str, tuple[str, int]], set[Transaction]] = {}

    def client(self, branch: str, method: str) -> Transaction | None:
        """The client transaction of that branch and method (RFC 3261 17.1.3)."""
        txn = (self.cancels if method == "CANCEL" else self.clients).get(branch)
        return txn if txn is not None and txn.request.method == method else None

    def add_client(self, key: ClientKey, txn: Transaction) -> None:
        """A client transaction begins."""
        if key.method == "CANCEL":
            self.cancels[key.branch] = txn
        else:
            self.clients[key.branch] = txn
        self.count += 1
        if txn.reliable:
            self._index(txn)

    def add_server(self, key: ServerKey, txn: Transaction) -> None:
        """A server transaction begins."""
        self.servers[key] = txn
        self.count += 1
        if txn.reliable:
            self._index(txn)

    def remove(self, txn: Transaction) -> None:
        """A transaction is over; nothing happens when it was removed before."""
        if (client := txn.client_key) is not None:
            table = self.cancels if client.method == "CANCEL" else self.clients
            if table.get(client.branch) is txn:
                del table[client.branch]
                self.count -= 1
        elif (server := txn.server_key) is not None and self.servers.get(server) is txn:
            del self.servers[server]
            self.count -= 1
        if txn.reliable:
            way = peer(txn.flow)
            same = self._by_peer.get(way)
            if same is not None:
                same.discard(txn)
                if not same:
                    del self._by_peer[way]

    def _index(self, txn: Transaction) -> None:
        self._by_peer.setdefault(peer(txn.flow), set()).add(txn)

    def relying_on(self, flow: Flow) -> list[Transaction]:
        """Transactions on that connection, and those that asked for any connection to the same peer."""
        if flow.reliable:
            candidates: Iterable[Transaction] = self._by_peer.get(peer(flow), ())
            found = [txn for txn in candidates if txn.flow.connection in (0, flow.connection)]
        else:
            everything = [*self.clients.values(), *self.cancels.values(), *self.servers.values()]
            found = [txn for txn in everything if txn.flow == flow]
        return sorted(found, key=lambda one: str(one.client_key or one.server_key))

    def sender_of(self, message: Message) -> Transaction | None:
        """The transaction that sent this message."""
        via = message.via
        if isinstance(message, Request):
            if message.method == "ACK":
                txn = self.client(branch_of(via), "INVITE")
                return txn if txn is not None and txn.ack is not None else None
            return self.client(branch_of(via), message.method)
        return self.servers.get(ServerKey(branch_of(via), sent_by(via.host, via.port), message.cseq.method))
