"""Takes the bit-exact messages of RFC 4475 and RFC 5118 out of the RFC texts' own archives (base64, gzip, tar).

    python tests/torture/extract.py RFC4475.txt RFC5118.txt

writes them to ``tests/torture/rfc4475`` and ``tests/torture/rfc5118``. What it wrote is kept beside it, so that the
tests need no RFC text.
"""

import base64
import io
import re
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
_BLOCK = re.compile(r"-- BEGIN MESSAGE ARCHIVE --\n(.*?)-- END MESSAGE ARCHIVE --", re.DOTALL)
_LINE = re.compile(r"^\s*([A-Za-z0-9+/]+=*)\s*$", re.MULTILINE)
_RFC = re.compile(r"^RFC (\d{4}) ", re.MULTILINE)


def messages(text: str) -> tuple[str, dict[str, bytes]]:
    """The RFC's number and its messages by name; raises ValueError for a text without number or archive."""
    # The last block: the appendix shows a program that names the markers before the archive itself.
    number, blocks = _RFC.search(text), _BLOCK.findall(text)
    if number is None or not blocks:
        raise ValueError("no RFC with a message archive")
    packed = base64.b64decode("".join(_LINE.findall(blocks[-1])))
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        for member in archive.getmembers():
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                found[Path(member.name).name] = content.read()
    return number.group(1), found


def main(paths: list[str]) -> int:
    """Write the messages of each RFC text; the exit status."""
    for path in paths:
        number, found = messages(Path(path).read_text("latin-1"))
        folder = HERE / f"rfc{number}"
        folder.mkdir(exist_ok=True)
        for name, octets in found.items():
            (folder / name).write_bytes(octets)
        print(f"RFC {number}: {len(found)} messages written to {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
