"""The tables are total and unambiguous; the policy says what its words promise."""

from dataclasses import fields
from itertools import product
from typing import get_args

import pytest

from imsalg.core.call_model import TABLE, Do, Input, Stage
from imsalg.core.gateway_model import message_id
from imsalg.core.media_events import Side
from imsalg.core.media_failures import FAILURES, reaction
from imsalg.core.media_policy import (
    MATRIX,
    TEXTS,
    History,
    Kind,
    LineFacts,
    Prints,
    Proto,
    Verdict,
    decide,
    plan_offer,
    policy_for,
    verdict,
)
from imsalg.core.msrp_mode import TABLE as MODES
from imsalg.core.msrp_mode import Mode, Paths, mode_of
from imsalg.media_settings import (
    DirectionPolicy,
    FailureSettings,
    MediaPolicy,
    MediaRealm,
    MediaSettings,
    MsrpMode,
    PolicyWord,
)
from imswire.h248.iq import FAILURE_KINDS

POLICIES: tuple[PolicyWord, ...] = ("off", "optional", "required", "always")
ALL = [
    (LineFacts(0, side, proto, history, requested, agreed, prints, keyed), policy)
    for side, proto, history, requested, agreed, prints, keyed, policy in product(
        Side, Proto, History, (False, True), (False, True), Prints, (False, True), POLICIES
    )
]


def test_every_combination_has_exactly_one_row() -> None:
    wrong = [(f, p) for f, p in ALL if sum(row.matches(f, p) for row in MATRIX) != 1]
    assert not wrong


def test_every_row_is_used() -> None:
    assert not [row for row in MATRIX if not any(row.matches(f, p) for f, p in ALL)]


def test_a_missing_row_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imsalg.core.media_policy.MATRIX", ())
    plan = decide(ALL[0][0], "optional")
    assert (plan.kind, plan.status, plan.reason) == (Kind.REFUSE, 488, "no-row")


def test_every_refusal_has_words() -> None:
    verdicts = {v for v in Verdict if v not in (Verdict.PASS, Verdict.SECURE)}
    assert verdicts <= TEXTS.keys()
    for facts, policy in ALL:
        plan = decide(facts, policy)
        assert plan.kind is not Kind.REFUSE or plan.warning.startswith("media line 1: ")


def test_nothing_that_the_ue_protected_is_secured_without_a_fingerprint() -> None:
    for facts, policy in ALL:
        if decide(facts, policy).kind is Kind.E2AE and facts.side is Side.ACCESS:
            assert facts.prints is Prints.USABLE
            assert facts.proto is Proto.TLS


def test_off_touches_no_new_line() -> None:
    for facts, policy in ALL:
        if policy == "off" and facts.history is not History.SECURED:
            assert verdict(facts, policy) is Verdict.PASS


def test_required_lets_no_new_msrp_line_pass_unless_keyed_end_to_end() -> None:
    for facts, policy in ALL:
        if policy == "required" and facts.history is History.NEW and facts.proto is not Proto.OTHER:
            assert (verdict(facts, policy) is Verdict.PASS) == facts.keyed


def test_a_secured_line_never_becomes_unprotected() -> None:
    for facts, policy in ALL:
        if facts.history is History.SECURED:
            assert verdict(facts, policy) is not Verdict.PASS


def ue(**changes: object) -> LineFacts:
    fields: dict[str, object] = {
        "index": 0,
        "side": Side.ACCESS,
        "proto": Proto.TLS,
        "requested": True,
        "agreed": True,
        "prints": Prints.USABLE,
        "cema": True,
    }
    return LineFacts(**{**fields, **changes})  # type: ignore[arg-type]


def core(**changes: object) -> LineFacts:
    return ue(**{"side": Side.CORE, "proto": Proto.PLAIN, "requested": False, "prints": Prints.NONE, **changes})


@pytest.mark.parametrize(
    ("facts", "policy", "outcome"),
    [
        (ue(), "optional", "e2ae"),
        (ue(agreed=False), "optional", "pass"),
        (ue(requested=False), "optional", "pass"),
        (ue(proto=Proto.PLAIN, requested=False), "optional", "pass"),
        (ue(proto=Proto.PLAIN), "optional", "no-tls"),
        (ue(keyed=True), "optional", "pass"),
        (ue(proto=Proto.OTHER), "optional", "pass"),
        (ue(removed=True), "optional", "removed"),
        (ue(cema=False), "optional", "e2ae"),
        (ue(cema=False, paths=Paths.RELAYS), "optional", "relays"),
        (ue(cema=False, paths=Paths.RELAYS), "required", "relays"),
        (ue(cema=False, paths=Paths.MISSING), "optional", "path-missing"),
        (ue(cema=False, paths=Paths.BROKEN), "optional", "path-broken"),
        (ue(cema=False, paths=Paths.NO_SESSION), "optional", "path-session"),
        (ue(medium="bfcp", paths=Paths.MISSING), "optional", "e2ae"),
        (ue(medium="bfcp", requested=False), "required", "not-requested"),
        (ue(address_ok=False), "optional", "address"),
        (ue(prints=Prints.NONE), "optional", "fingerprint-none"),
        (ue(prints=Prints.BROKEN), "optional", "fingerprint-broken"),
        (ue(prints=Prints.UNKNOWN), "optional", "fingerprint-unknown"),
        (ue(), "off", "pass"),
        (ue(), "required", "e2ae"),
        (ue(agreed=False), "required", "not-agreed"),
        (ue(requested=False), "required", "not-requested"),
        (ue(proto=Proto.PLAIN), "required", "no-tls"),
        (ue(requested=False, agreed=False), "always", "e2ae"),
        (ue(requested=False, prints=Prints.NONE), "always", "pass"),
        (ue(prints=Prints.NONE), "always", "fingerprint-none"),
        (core(), "optional", "e2ae"),
        (core(agreed=False), "optional", "pass"),
        (core(agreed=False), "always", "e2ae"),
        (core(agreed=False), "required", "not-agreed"),
        (core(cema=False), "optional", "e2ae"),
        (core(proto=Proto.TLS), "optional", "pass"),
        (core(proto=Proto.TLS), "required", "end-to-end"),
        (ue(history=History.SECURED, requested=False, agreed=False), "optional", "e2ae"),
        (ue(history=History.SECURED, proto=Proto.PLAIN), "off", "downgrade"),
        (core(history=History.SECURED, proto=Proto.TLS), "optional", "takeover"),
        (core(history=History.PASSED), "always", "pass"),
    ],
)
def test_policy(facts: LineFacts, policy: PolicyWord, outcome: str) -> None:
    plan = decide(facts, policy)
    assert (plan.reason or plan.kind) == outcome


def test_one_refused_line_refuses_the_offer_and_is_named() -> None:
    use = MediaSettings(realms={"a": MediaRealm(msrp_mode="agnostic")})
    plans, refusal = plan_offer([ue(), ue(index=1, cema=False, label="message 2855 TCP/TLS/MSRP")], use, "a")
    assert [plan.kind for plan in plans] == [Kind.E2AE, Kind.REFUSE]
    assert refusal is not None
    assert refusal.warning.startswith("media line 2 (message 2855 TCP/TLS/MSRP): a=msrp-cema is missing")


def test_call_table_is_total() -> None:
    inputs = set(get_args(Input))
    assert TABLE.keys() == set(Stage)
    assert all(row.keys() == inputs for row in TABLE.values())


def test_call_table_uses_every_order_and_forgets_nothing() -> None:
    assert {do for row in TABLE.values() for do in row.values()} == set(Do)
    assert set(TABLE[Stage.RELEASING].values()) == {Do.IGNORE, Do.CLEAN}


def test_every_failure_of_the_profile_has_an_end() -> None:
    assert FAILURES.keys() == set(FAILURE_KINDS)
    assert {row.setting for row in FAILURES.values()} == {field.name for field in fields(FailureSettings)}
    assert [kind for kind in FAILURES if reaction(kind, FailureSettings()) == "log"] == ["remote-closed"]


def test_every_way_to_handle_messages_has_exactly_one_row() -> None:
    for setting, aware, cema in product(("auto", "agnostic", "aware"), (False, True), (False, True)):
        rows = [
            row
            for row in MODES
            if row.setting in (None, setting) and row.aware in (None, aware) and row.cema in (None, cema)
        ]
        assert len(rows) == 1, (setting, aware, cema)


@pytest.mark.parametrize(
    ("setting", "cema", "aware", "handling"),
    [
        ("auto", True, False, Mode.AGNOSTIC),
        ("auto", False, False, Mode.AWARE),
        ("auto", True, True, Mode.AWARE),
        ("agnostic", True, False, Mode.AGNOSTIC),
        ("agnostic", False, False, "no-cema"),
        ("aware", True, False, Mode.AWARE),
        ("aware", False, False, Mode.AWARE),
    ],
)
def test_handling_of_messages(setting: MsrpMode, cema: bool, aware: bool, handling: str) -> None:
    assert mode_of(setting, cema=cema, paths=Paths.ONE, aware=aware) == handling
    assert mode_of(setting, cema=cema, paths=Paths.RELAYS, aware=aware) == "relays"


def test_a_line_over_relays_is_left_alone_with_a_reason_only_where_that_is_optional() -> None:
    plan = decide(ue(cema=False, paths=Paths.RELAYS), "optional")
    assert (plan.kind, plan.reason) == (Kind.PASS, "relays")
    assert "MSRP relays" in plan.warning
    assert decide(ue(cema=False, paths=Paths.RELAYS), "always").kind is Kind.REFUSE
    assert decide(ue(paths=Paths.RELAYS, history=History.SECURED), "optional").kind is Kind.REFUSE


def test_the_words_are_chosen_by_realm_direction_and_medium() -> None:
    use = MediaSettings(
        policy=MediaPolicy(msrp="off", bfcp=DirectionPolicy("required", "off")),
        realms={"wlan": MediaRealm(msrp=DirectionPolicy("always", "required"))},
    )
    found = {
        (realm, medium, side): policy_for(ue(side=side, medium=medium), use, realm)
        for realm, medium, side in product(("lte", "wlan"), ("msrp", "bfcp", ""), Side)
    }
    assert found == {
        ("lte", "msrp", Side.ACCESS): "off",
        ("lte", "msrp", Side.CORE): "off",
        ("lte", "bfcp", Side.ACCESS): "required",
        ("lte", "bfcp", Side.CORE): "off",
        ("wlan", "msrp", Side.ACCESS): "always",
        ("wlan", "msrp", Side.CORE): "required",
        ("wlan", "bfcp", Side.ACCESS): "required",
        ("wlan", "bfcp", Side.CORE): "off",
        **{(realm, "", side): "off" for realm, side in product(("lte", "wlan"), Side)},
    }


@pytest.mark.parametrize(
    ("name", "mid"),
    [("imsalg", "imsalg"), ("pcscf.example.net", "<pcscf.example.net>"), ("[127.0.0.1]:2944", "[127.0.0.1]:2944")],
)
def test_message_identifier(name: str, mid: str) -> None:
    assert message_id(name) == mid
