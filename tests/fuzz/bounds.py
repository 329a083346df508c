"""How many examples a property test takes: few in ``make test``, more when ``make fuzz`` says so."""

import os

FACTOR = max(1, int(os.environ.get("IMSALG_FUZZ_FACTOR", "1")))
"""What multiplies the examples of every fuzz test."""


def examples(usual: int) -> int:
    """``usual`` in ``make test``, a multiple of it in ``make fuzz``."""
    return usual * FACTOR
