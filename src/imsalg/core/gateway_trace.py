"""H.248 transactions as short lines for the trace: command, termination, and the fields that matter
(docs/tracing.md)."""

from collections.abc import Callable, Iterator

from imsalg.core.gateway_audit import ORDER, PROBE
from imsalg.core.gateway_model import Link
from imswire.base import ProtocolError
from imswire.h248 import packages
from imswire.h248.body import Body, fingerprint_text, read_body
from imswire.h248.model import (
    ALL_CONTEXTS,
    CHOOSE_CONTEXT,
    NULL_CONTEXT,
    Action,
    Command,
    Message,
    Stream,
    Transaction,
    TransactionAck,
    TransactionPending,
    TransactionReply,
    TransactionRequest,
)

_CONTEXTS: dict[int, str] = {NULL_CONTEXT: "-", CHOOSE_CONTEXT: "$", ALL_CONTEXTS: "*"}
_TYPES: dict[type, str] = {
    TransactionRequest: "request",
    TransactionReply: "reply",
    TransactionPending: "pending",
    TransactionAck: "ack",
}


_LABELS = (
    (packages.REALM, "realm"),
    (packages.TCP_MODE, "mode"),
    (packages.TLS_ROLE, "tls-role"),
    (packages.SOURCE_ADDRESS_MASK, "from"),
    (packages.SOURCE_PORT_RANGE, "from-ports"),
)
"""Properties whose values are shown, and by which name; of the others those that are on."""


def lines_of(
    link: Link, direction: str, message: Message, call_id_of: Callable[[str], str]
) -> Iterator[dict[str, object]]:
    """The trace lines of a message on ``link``, with the call that each transaction is for where that is known;
    ``call_id_of`` gives the SIP Call-ID of a call's key."""
    gateway = link.gateway
    for transaction in message.transactions:
        tid = None if isinstance(transaction, TransactionAck) else transaction.id
        # Only replies and pendings that come in, and requests that go out, bear ids of ours.
        ours = (direction == "out") is isinstance(transaction, TransactionRequest)
        ticket = link.tickets.get(tid, ORDER) if tid is not None and ours else ORDER
        if ticket is PROBE:
            continue  # heartbeats would drown everything else
        key, call_id = ticket.call, ticket.call_id
        if not key and gateway is not None and isinstance(transaction, TransactionRequest):
            keys = (gateway.contexts.get(action.context, "") for action in transaction.actions)
            key = next((found for found in keys if found), "")
            call_id = call_id_of(key)
        fields = trace_fields(direction, gateway.mid if gateway is not None else message.mid, transaction)
        if key:
            fields |= {"call": key, "call_id": call_id}
        yield fields


def trace_fields(direction: str, gateway: str, transaction: Transaction) -> dict[str, object]:
    """The fields of a ``h248`` trace line; ``direction`` is in or out, seen from the IMS-ALG."""
    fields: dict[str, object] = {"dir": direction, "gateway": gateway, "type": _TYPES[type(transaction)]}
    if not isinstance(transaction, TransactionAck):
        fields["tid"] = transaction.id
    commands: list[dict[str, object]] = []
    if isinstance(transaction, TransactionReply) and transaction.error is not None:
        text = f"error={transaction.error.code} {transaction.error.text}".rstrip()
        commands.append({"command": "Error", "fields": [text]})
    if isinstance(transaction, (TransactionRequest, TransactionReply)):
        for action in transaction.actions:
            commands += _action(action)
    fields["commands"] = commands
    return fields


def _action(action: Action) -> list[dict[str, object]]:
    context = _CONTEXTS.get(action.context, action.context)
    listed: list[dict[str, object]] = [
        {
            "command": command.name,
            "context": context,
            "termination": command.termination,
            "fields": _command_fields(command),
        }
        for command in action.commands
    ]
    if action.error is not None:
        listed.append({"command": "Error", "context": context, "fields": [f"error={action.error.code}"]})
    return listed


def _command_fields(command: Command) -> list[str]:
    fields: list[str] = []
    if command.error is not None:
        fields.append(f"error={command.error.code} {command.error.text}".rstrip())
    if command.service_change is not None and command.service_change.method:
        fields += [command.service_change.method, *filter(None, [command.service_change.reason])]
    if command.media is not None:
        for stream in command.media.streams:
            fields += _stream_fields(stream)
    signals = command.signals.signals if command.signals is not None else ()
    if any(signal.name.lower() == packages.TLS_START.lower() for signal in signals):
        fields.append("TLS=active")
    if command.observed is not None:
        for event in command.observed.events:
            fields += [event.name, *(f"{p.name}={p.value}" for p in event.parameters)]
    if command.statistics is not None:
        fields += [f"{p.name}={p.value}" for p in command.statistics]
    return fields


def _stream_fields(stream: Stream) -> list[str]:
    fields: list[str] = []
    if stream.control is not None:
        values = {parameter.name.lower(): parameter.value for parameter in stream.control.properties}
        for name, label in _LABELS:
            if name in values:
                fields.append(f"{label}={values.pop(name)}")
        fields += [f"{name}=on" for name, value in values.items() if value == "on"]
    for letter, text in (("L", stream.local), ("R", stream.remote)):
        body = _body(text)
        if body is not None:
            fields += _body_fields(letter, body)
    return fields


def _body_fields(letter: str, body: Body) -> list[str]:
    address = "$" if body.address is None else f"[{body.address}]" if ":" in body.address else body.address
    port = "$" if body.port is None else str(body.port)
    place = "$" if (address, port) == ("$", "$") else f"{address}:{port}"
    fields = [f"m={body.proto}"] if letter == "L" else []
    fields.append(f"{letter}={place}")
    if body.setup is not None:
        fields.append(f"setup={body.setup}")
    if body.fingerprint_wanted is not None:
        fields.append("fp=?")
    fields += [f"fp={fingerprint_text(fingerprint)}" for fingerprint in body.fingerprints]
    if body.path is not None:
        fields.append(f"path={body.path}")
    return fields


def _body(text: str | None) -> Body | None:
    if text is None:
        return None
    try:
        return read_body(text)
    except ProtocolError:
        return None
