"""Every decision of the IMS-AGW, synchronous and pure: H.248 commands and socket reports in, orders out."""
