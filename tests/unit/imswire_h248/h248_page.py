"""The parts of docs/iq-profile.md that are made from the code: the table of items and the example messages.

``python -m tests.unit.imswire_h248.h248_page`` (with src on the path) writes them into the page; a test compares.
"""

import re
from pathlib import Path

from tests.unit.imswire_h248.h248_corpus import PROFILE

from imswire.h248.package_model import Type
from imswire.h248.packages import PACKAGES
from imswire.h248.writer import write

PAGE = Path(__file__).parents[3] / "docs" / "iq-profile.md"
COMPACT = "Originating: Add request (steps 2 and 5)"
"""The example that is shown in compact form too."""


def table() -> str:
    rows = ["| Item | Kind | Type | Parameters | Verified | Meaning |", "|---|---|---|---|---|---|"]
    for package in PACKAGES:
        for item in package.items:
            arguments = ", ".join(
                f"{a.name} ({a.type.value}{': ' + ' '.join(a.values) if a.values else ''})" for a in item.arguments
            )
            type_ = (
                ""
                if item.type is Type.NONE
                else item.type.value + (f": {' '.join(item.values)}" if item.values else "")
            )
            rows.append(
                f"| `{package.id}/{item.name}` | {item.kind.value} | {type_} | {arguments} "
                f"| {'yes' if item.verified else 'no'} | {item.meaning} |"
            )
    return "\n".join(rows)


def sources() -> str:
    rows = ["| Package | Version | Title | Verified | Source |", "|---|---|---|---|---|"]
    rows += [f"| `{p.id}` | {p.version} | {p.title} | {'yes' if p.verified else 'no'} | {p.source} |" for p in PACKAGES]
    return "\n".join(rows)


def examples() -> str:
    made = []
    for title, message in PROFILE.items():
        made.append(f"### {title}\n\n```megaco\n{text(write(message, pretty=True))}\n```")
        if title == COMPACT:
            made.append(f"The same, compact:\n\n```megaco\n{text(write(message))}\n```")
    return "\n\n".join(made)


def text(data: bytes) -> str:
    """Line ends of SDP are CRLF on the wire; the page has the line ends of its file."""
    return data.decode().replace("\r\n", "\n")


PARTS = {"packages": sources, "items": table, "examples": examples}


def fill(page: str) -> str:
    """The page with its generated parts brought up to date."""
    for name, make in PARTS.items():
        start, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        before, rest = page.split(start, 1)
        _, after = rest.split(end, 1)
        page = f"{before}{start}{make()}{end}{after}"
    return page


def blocks(page: str) -> list[tuple[str, str]]:
    """The example messages of the page: title of the section and text."""
    found = []
    for section in re.split(r"^### ", page.partition("<!-- examples -->")[2], flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        found += [(title, block) for block in re.findall(r"```megaco\n(.*?)\n```", section, re.DOTALL)]
    return found


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text()))
