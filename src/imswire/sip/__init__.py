"""SIP (RFC 3261 and friends): URIs, headers, messages, framing, transactions and dialogs, all pure."""
