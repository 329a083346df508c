"""Every decision of the P-CSCF/IMS-ALG, synchronous and pure: events in, commands out."""
