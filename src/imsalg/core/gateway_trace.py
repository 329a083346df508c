"""H.248 transactions as short lines for the trace: command, termination, and the fields that matter
(docs/tracing.md)."""

from imswire.base import ProtocolError
from imswire.h248 import packages
from imswire.h248.body import Body, fingerprint_text, read_body
from imswire.h248.model import (
    ALL_CONTEXTS,
    CHOOSE_CONTEXT,
    NULL_CONTEXT,
    Action,
    Command,
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
    if command.signals is not None:
        started = any(signal.name.lower() == packages.TLS_START.lower() for signal in command.signals.signals)
        fields.append("TLS=active" if started else "TLS=passive")
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
        for name, label in ((packages.REALM, "realm"), (packages.TCP_MODE, "mode")):
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
    return fields


def _body(text: str | None) -> Body | None:
    if text is None:
        return None
    try:
        return read_body(text)
    except ProtocolError:
        return None
