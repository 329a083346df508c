"""The lab's user equipment: SIP user agent with mediasec registration and MSRP sessions over TCP and TLS."""
