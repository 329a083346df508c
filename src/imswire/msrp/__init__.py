"""MSRP (RFC 4975): messages, framing and the endpoint's session machine, all pure."""
