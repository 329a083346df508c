"""The ladder: reading traces, finding the calls in them, drawing."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from imslab.__main__ import app
from imslab.ladder import Arrow, Column, Ladder, Note, Tone, TraceError, TraceLine, build_ladders, read_traces
from imslab.ladder.describe import clean, human_bytes
from imslab.ladder.export import Format, choose, export
from imslab.ladder.mermaid import mermaid
from imslab.ladder.text import TextLadder, text_rows

DATA = Path(__file__).parent / "data"
HAND_MADE = (DATA / "call.imsalg.jsonl", DATA / "call.agw.jsonl")
RECORDED = (DATA / "early-imsalg.jsonl", DATA / "early-agw.jsonl")


def calls(paths: tuple[Path, ...]) -> list[Ladder]:
    return choose(build_ladders(read_traces(paths)))


def arrows(ladder: Ladder, tone: Tone) -> list[str]:
    return [item.title for item in ladder.items if isinstance(item, Arrow) and item.tone is tone]


@pytest.mark.parametrize("paths", [HAND_MADE, RECORDED, HAND_MADE[::-1]])
def test_a_call_between_two_ues_gives_two_passages(paths: tuple[Path, ...]) -> None:
    originating, terminating = calls(paths)
    assert (originating.kind, originating.user, originating.names[0]) == ("originating", "alice", "UE A alice")
    assert (terminating.kind, terminating.user, terminating.names[0]) == ("terminating", "bob", "UE B bob")
    assert originating.call_id == terminating.call_id
    for ladder in (originating, terminating):
        assert len(ladder.facts.tls) == len(ladder.facts.verified) == 1
        assert ladder.facts.to_core > 0
        assert ladder.facts.to_access > 0
        assert [t.split(" [")[0] for t in arrows(ladder, Tone.H248)] == [
            "H.248 ADD ×2 req",
            "H.248 ADD ×2 resp",
            "H.248 MOD ×2 req",
            "H.248 MOD ×2 resp",
            arrows(ladder, Tone.H248)[4].split(" [")[0],
            "H.248 SUB ×2 resp",
        ]
    assert terminating.facts.held == 1
    assert originating.facts.held == 0


def test_core_is_added_first_by_an_originating_and_second_by_a_terminating_passage() -> None:
    originating, terminating = calls(RECORDED)
    first = [
        next(i for i in one.items if isinstance(i, Arrow) and i.tone is Tone.H248) for one in (originating, terminating)
    ]
    assert "realm=core" in first[0].details[0]
    assert "realm=access" in first[1].details[0]


def without(lines: list[TraceLine], *fields: str) -> list[TraceLine]:
    return [replace(line, **dict.fromkeys(fields)) for line in lines]


@pytest.mark.parametrize("paths", [HAND_MADE, RECORDED])
def test_passages_are_found_by_the_order_of_messages_where_nothing_names_them(paths: tuple[Path, ...]) -> None:
    lines = read_traces(paths)
    named = calls(paths)
    found = choose(build_ladders(without(lines, "user", "call")))
    assert [(one.kind, one.items) for one in found] == [(one.kind, one.items) for one in named]


def test_registrations_are_shown_on_demand() -> None:
    ladders = build_ladders(read_traces(RECORDED))
    kinds = [one.kind for one in choose(ladders, registrations=True)]
    assert kinds == ["registration", "registration", "originating", "terminating"]


def test_agw_lines_without_signalling_make_a_ladder_of_their_own() -> None:
    ladders = build_ladders(read_traces([HAND_MADE[1]]))
    assert [one.kind for one in ladders] == ["media", "media"]
    assert all(one.facts.verified for one in ladders)


def test_a_context_number_used_again_belongs_to_the_later_call() -> None:
    lines = read_traces(HAND_MADE)
    later = [replace(line, t=line.t + 100, call_id=line.call_id and "second") for line in lines]
    ladders = build_ladders([*lines, *later])
    assert [len(one.items) for one in ladders] == [len(one.items) for one in calls(HAND_MADE)] * 2


@pytest.mark.parametrize("width", [40, 72, 80, 100, 120, 132, 400])
@pytest.mark.parametrize("paths", [HAND_MADE, RECORDED])
def test_text_fits_and_the_lifelines_stand_still(paths: tuple[Path, ...], width: int) -> None:
    for ladder in calls(paths):
        drawing = TextLadder(ladder, width)
        rows = [row.plain for row in drawing.rows()]
        assert max(map(len, rows)) <= max(72, min(width, 160))
        top = next(i for i, row in enumerate(rows) if "┬" in row)
        bottom = next(i for i, row in enumerate(rows) if "┴" in row)
        assert [i for i, c in enumerate(rows[top]) if c == "┬"] == list(drawing.xs)
        for row in rows[top + 1 : bottom]:
            # An arrow may pass through the middle lifelines, notes and labels may lie over them, the outer ones stay.
            assert row[drawing.xs[0]] in "│", row
            assert row[drawing.xs[1]] in "│ ─┄═" or row.strip(), row


def test_every_label_is_in_the_text() -> None:
    ladder = calls(RECORDED)[0]
    drawn = "".join("\n".join(row.plain for row in text_rows(ladder, 160)).split())
    for item in ladder.items:
        assert "".join((item.title if isinstance(item, Arrow) else item.text).split()) in drawn


def test_a_failure_is_red_and_named() -> None:
    lines = [
        TraceLine(
            t=1.0,
            node="agw",
            kind="verify",
            gateway="g",
            context=1,
            realm="access",
            what="mismatch",
            expected="AA:BB",
            seen="CC:DD",
        ),
        TraceLine(
            t=1.5, node="agw", kind="tls", gateway="g", context=1, realm="access", what="alert", text="bad certificate"
        ),
    ]
    (ladder,) = build_ladders(lines)
    first, second = ladder.items
    assert isinstance(first, Note)
    assert isinstance(second, Note)
    assert (first.tone, first.text) == (Tone.FAILURE, "✘ fingerprint mismatch: expected AA:BB, seen CC:DD")
    assert second.text == "✘ TLS alert: bad certificate"
    assert ladder.facts.mismatched == ("CC:DD",)
    assert "fingerprint refused" in text_rows(ladder)[-1].plain


def test_control_and_direction_characters_never_reach_the_terminal() -> None:
    evil = "INVITE sip:\x1b[2J\u202eevil@x"
    line = TraceLine(
        t=1.0,
        node="imsalg",
        kind="sip",
        dir="in",
        realm="access",
        peer="1.2.3.4:5\x07",
        call_id="c\x1b",
        cseq="1 INVITE",
        summary=evil,
    )
    for form in Format:
        text = export(build_ladders([line]), form)
        assert not any(c in text for c in "\x1b\x07\u202e")
    assert clean("a" * 500) == "a" * 159 + "…"


def test_mermaid_escapes_what_would_end_a_message() -> None:
    line = TraceLine(
        t=1.0,
        node="imsalg",
        kind="sip",
        dir="in",
        realm="access",
        call_id="c",
        cseq="1 INVITE",
        summary="INVITE sip:a;b#c<d>",
    )
    text = mermaid(build_ladders([line])[0])
    assert "UE->>ALG: 0.000 INVITE sip:a#59;b#35;c#60;d#62;" in text
    assert text.startswith("sequenceDiagram\n")


def test_mermaid_has_a_line_for_every_item() -> None:
    for ladder in calls(RECORDED):
        lines = [line for line in mermaid(ladder).splitlines() if "->" in line or "-x" in line or "Note over" in line]
        assert len(lines) == len(ladder.items)


def test_svg_is_well_formed_and_says_everything() -> None:
    ladders = calls(RECORDED)
    root = ElementTree.fromstring(export(ladders, Format.SVG))
    texts = " ".join("".join(element.itertext()) for element in root.iter() if element.tag.endswith("text"))
    for ladder in ladders:
        assert ladder.title in texts
    assert texts.count("INVITE sip:") >= 2
    assert "fingerprint verified" in texts


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (99_999, "99,999 B"), (1_006_805, "1,007 kB"), (52_428_800, "52.4 MB")]
)
def test_bytes_are_short(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_a_broken_line_is_named_and_an_unfinished_last_one_is_left_out(tmp_path: Path) -> None:
    good = HAND_MADE[0].read_bytes()
    growing = tmp_path / "growing.jsonl"
    growing.write_bytes(good + b'{"t": 1.0, "node"')
    assert len(read_traces([growing])) == good.count(b"\n")
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b'\n{"t": "soon", "node": "x", "kind": "sip"}\n')
    with pytest.raises(TraceError, match=r"broken\.jsonl, line 2: .*float"):
        read_traces([broken])


def test_command_writes_each_format(tmp_path: Path) -> None:
    runner = CliRunner()
    files = list(map(str, RECORDED))
    call_id = calls(RECORDED)[0].call_id
    for form, start in (("text", "Originating call of alice"), ("mermaid", "sequenceDiagram"), ("svg", "<svg ")):
        shown = runner.invoke(app, ["ladder", *files, "--format", form])
        assert shown.exit_code == 0, shown.output
        assert shown.output.startswith(start)
        target = tmp_path / f"out.{form}"
        result = runner.invoke(
            app, ["ladder", *files, "--format", form, "--output", str(target), "--call", call_id[:6]]
        )
        assert result.exit_code == 0, result.output
        assert target.read_text() == shown.output


def test_command_names_what_it_cannot_do(tmp_path: Path) -> None:
    runner = CliRunner()
    unknown = runner.invoke(app, ["ladder", *map(str, RECORDED), "--call", "nobody"])
    assert unknown.exit_code == 1
    assert "no call with Call-ID nobody" in unknown.output
    missing = runner.invoke(app, ["ladder", str(tmp_path / "absent.jsonl")])
    assert missing.exit_code == 2
    assert "No such file" in missing.output


def test_columns_are_those_of_the_figure() -> None:
    ladder = calls(HAND_MADE)[0]
    assert ladder.names == ("UE A alice", "IMS-ALG", "IMS-AGW", "core")
    first = ladder.items[0]
    assert isinstance(first, Arrow)
    assert (first.source, first.target) == (Column.UE, Column.ALG)
