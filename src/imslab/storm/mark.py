"""The mark that every message of a storm carries."""

MARK = "plain-text-mark"
"""Where it is seen on the access side, plain text has leaked."""
