"""The ladder as a mermaid sequence diagram, for pages that draw mermaid themselves."""

from imslab.ladder.model import Arrow, Ladder, Note

_NAMES = ("UE", "ALG", "AGW", "CORE")


def _escape(text: str) -> str:
    """Mermaid ends a message at a semicolon or line end and reads ``#`` as an entity; ``<`` would start HTML."""
    out = []
    for character in text:
        if character in '#;<>&"`':
            out.append(f"#{ord(character)};")
        else:
            out.append(character)
    return "".join(out)


def mermaid(ladder: Ladder) -> str:
    """One ``sequenceDiagram``; times are in the messages' texts, in seconds since the first."""
    lines = ["sequenceDiagram", f"    %% {' '.join(ladder.title.split())}"]
    for short, name, address in zip(_NAMES, ladder.names, ladder.addresses, strict=True):
        lines.append(f"    participant {short} as {_escape(name)}" + (f"<br/>{_escape(address)}" if address else ""))
    for item in ladder.items:
        match item:
            case Arrow():
                text = "<br/>".join(_escape(part) for part in (f"{item.at:.3f} {item.title}", *item.details))
                source, target = _NAMES[item.source], _NAMES[item.target]
                head = "-x" if item.lost else "<<->>" if item.both else "->>"
                lines.append(f"    {source}{head}{target}: {text}")
            case Note():
                lines.append(f"    Note over {_NAMES[item.column]}: {item.at:.3f} {_escape(item.text)}")
    return "\n".join(lines) + "\n"
