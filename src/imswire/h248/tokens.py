"""The tokens of RFC 3525 Annex B.2 (long and short form) as ONE table, and the lookups that parser and writer use.

Tokens are case insensitive. The syntax depends on context, so each production has its own small table.
"""

from typing import Final

TOKENS: Final[dict[str, str]] = {
    "Add": "A",
    "Audit": "AT",
    "AuditCapability": "AC",
    "AuditValue": "AV",
    "Authentication": "AU",
    "Bothway": "BW",
    "Brief": "BR",
    "Buffer": "BF",
    "Context": "C",
    "ContextAudit": "CA",
    "DigitMap": "DM",
    "Disconnected": "DC",
    "Delay": "DL",
    "Duration": "DR",
    "Embed": "EM",
    "Emergency": "EG",
    "Error": "ER",
    "EventBuffer": "EB",
    "Events": "E",
    "Failover": "FL",
    "Forced": "FO",
    "Graceful": "GR",
    "Handoff": "HO",
    "ImmAckRequired": "IA",
    "Inactive": "IN",
    "Isolate": "IS",
    "InService": "IV",
    "IntByEvent": "IBE",
    "IntBySigDescr": "IBS",
    "KeepActive": "KA",
    "Local": "L",
    "LocalControl": "O",
    "LockStep": "SP",
    "LoopBack": "LB",
    "Media": "M",
    "MEGACO": "!",
    "Method": "MT",
    "MgcIdToTry": "MG",
    "Mode": "MO",
    "Modify": "MF",
    "Modem": "MD",
    "Move": "MV",
    "Mux": "MX",
    "Notify": "N",
    "NotifyCompletion": "NC",
    "ObservedEvents": "OE",
    "Oneway": "OW",
    "OnOff": "OO",
    "OtherReason": "OR",
    "OutOfService": "OS",
    "Packages": "PG",
    "Pending": "PN",
    "Priority": "PR",
    "Profile": "PF",
    "Reason": "RE",
    "ReceiveOnly": "RC",
    "Reply": "P",
    "Restart": "RS",
    "Remote": "R",
    "ReservedGroup": "RG",
    "ReservedValue": "RV",
    "SendOnly": "SO",
    "SendReceive": "SR",
    "Services": "SV",
    "ServiceStates": "SI",
    "ServiceChange": "SC",
    "ServiceChangeAddress": "AD",
    "SignalList": "SL",
    "Signals": "SG",
    "SignalType": "SY",
    "Statistics": "SA",
    "Stream": "ST",
    "Subtract": "S",
    "TerminationState": "TS",
    "Test": "TE",
    "TimeOut": "TO",
    "Topology": "TP",
    "Transaction": "T",
    "TransactionResponseAck": "K",
    "Version": "V",
}
"""Long form to short form. ``Handoff`` and ``LoopBack`` stand here as the model and most peers write them."""


class Keywords(dict[str, str]):
    """The tokens of one production: any form and case to the long form; ``find`` gives ``""`` for anything else."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            for form in (name, TOKENS.get(name, name)):
                self[form] = self[form.lower()] = self[form.upper()] = name

    def find(self, token: str) -> str:
        """The long form of a token, or ``""``."""
        return self.get(token) or self.get(token.lower(), "")


TRANSACTIONS: Final = Keywords("Transaction", "Reply", "Pending", "TransactionResponseAck")
COMMANDS: Final = Keywords(
    "Add", "Move", "Modify", "Subtract", "AuditValue", "AuditCapability", "Notify", "ServiceChange"
)
CONTEXT_PARTS: Final = Keywords("Topology", "Priority", "Emergency", "ContextAudit", "Error")
CONTEXT: Final = Keywords("Context")
ERROR: Final = Keywords("Error")
IMMEDIATE_ACK: Final = Keywords("ImmAckRequired")
DESCRIPTORS: Final = Keywords(
    "Media",
    "Modem",
    "Mux",
    "Events",
    "Signals",
    "DigitMap",
    "EventBuffer",
    "Audit",
    "ObservedEvents",
    "Statistics",
    "Packages",
    "Error",
    "Services",
)
MEDIA_PARTS: Final = Keywords("Local", "Remote", "LocalControl", "Stream", "TerminationState", "Statistics")
CONTROL_PARTS: Final = Keywords("Mode", "ReservedValue", "ReservedGroup")
STATE_PARTS: Final = Keywords("ServiceStates", "Buffer")
MODES: Final = Keywords("SendOnly", "ReceiveOnly", "SendReceive", "Inactive", "LoopBack")
SERVICE_STATES: Final = Keywords("Test", "OutOfService", "InService")
BUFFERS: Final = Keywords("OFF", "LockStep")
EVENT_PARTS: Final = Keywords("Embed", "KeepActive", "DigitMap", "Stream")
SIGNAL_PARTS: Final = Keywords("Stream", "SignalType", "Duration", "NotifyCompletion", "KeepActive")
SIGNAL_TYPES: Final = Keywords("OnOff", "TimeOut", "Brief")
COMPLETIONS: Final = Keywords("TimeOut", "IntByEvent", "IntBySigDescr", "OtherReason")
SIGNAL_LIST: Final = Keywords("SignalList")
AUDIT_ITEMS: Final = Keywords(
    "Mux",
    "Modem",
    "Media",
    "Signals",
    "EventBuffer",
    "DigitMap",
    "Statistics",
    "Events",
    "ObservedEvents",
    "Packages",
)
CONTEXT_AUDITS: Final = Keywords("Topology", "Emergency", "Priority")
CHANGE_PARTS: Final = Keywords("Method", "Reason", "Delay", "ServiceChangeAddress", "Profile", "MgcIdToTry", "Version")
METHODS: Final = Keywords("Failover", "Forced", "Graceful", "Restart", "Disconnected", "Handoff")

_SET: Final = frozenset({"Media", "Modem", "Mux", "Events", "Signals", "DigitMap", "EventBuffer", "Audit"})
_REPORT: Final = (_SET - {"Audit"}) | {"ObservedEvents", "Statistics", "Packages", "Error"}
REQUEST_DESCRIPTORS: Final[dict[str, frozenset[str]]] = {
    "Add": _SET,
    "Move": _SET,
    "Modify": _SET,
    "Subtract": frozenset({"Audit"}),
    "AuditValue": frozenset({"Audit"}),
    "AuditCapability": frozenset({"Audit"}),
    "Notify": frozenset({"ObservedEvents", "Error"}),
    "ServiceChange": frozenset({"Services"}),
}
"""The descriptors that each command request may carry."""
REPLY_DESCRIPTORS: Final[dict[str, frozenset[str]]] = {
    "Add": _REPORT,
    "Move": _REPORT,
    "Modify": _REPORT,
    "Subtract": _REPORT,
    "AuditValue": _REPORT,
    "AuditCapability": _REPORT,
    "Notify": frozenset({"Error"}),
    "ServiceChange": frozenset({"Services", "Error"}),
}
"""The descriptors that each command reply may carry."""
