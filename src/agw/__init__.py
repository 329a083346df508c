"""IMS-AGW: terminates TLS from the UE, verifies fingerprints, relays plain TCP to the core; controlled over Iq."""
