"""What a UE may not say in its credentials: that they came under integrity protection (TS 24.229 5.2.2, 7.2A.2).

``integrity-protected`` in Authorization is the P-CSCF's word to the registrar. A registrar that finds it there may
take the UE for authenticated, so that none from a UE ever goes on. This node sets none of its own: the registrar asks
every UE for its digest, over TLS as well.
"""

import re

from imsalg.core.sip_call import Answer
from imswire.sip.headers import Headers

PARAMETER = "integrity-protected"
_PIECES = re.compile(r'"(?:[^"\\]|\\.)*"|[^",]+|[",]', re.DOTALL)


def strip_protected(headers: Headers) -> None:
    """Remove the parameter from every Authorization line, in place; Answer 400 where that cannot be done surely."""
    lines = headers.get_all("authorization")
    if not any(PARAMETER in line.lower() for line in lines):
        return
    kept = [_without(line) for line in lines]
    headers.remove("authorization")
    for line in kept:
        headers.add("Authorization", line)


def _without(line: str) -> str:
    scheme, _, rest = line.partition(" ")
    params: list[list[str]] = [[]]
    for piece in _PIECES.findall(rest):
        if piece == ",":
            params.append([])
        else:
            params[-1].append(piece)
    kept = [param for param in params if "".join(param).partition("=")[0].strip().lower() != PARAMETER]
    bare = " ".join([scheme, *(piece for param in kept for piece in param if len(piece) < 2 or piece[0] != '"')])
    if '"' in bare or PARAMETER in bare.lower():
        raise Answer(400, "Authorization cannot be read")
    return f"{scheme} {','.join(''.join(param) for param in kept).strip()}"
