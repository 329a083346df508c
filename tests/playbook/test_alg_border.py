"""What UEs may not have said for them at the border: claims of protection, of urgency, of being an emergency centre."""

import pytest
from tests.playbook.alg_harness import UE, Book, settings

CREDENTIALS = 'Digest username="alice@example.net",realm="example.net",nonce="n",uri="sip:example.net",response="r"'


def registering(book: Book, *headers: str, contact: str = "<sip:alice@10.0.0.7:5070>;expires=600") -> None:
    """A REGISTER of alice with those header lines."""
    book.receive(
        UE,
        "\n".join(
            (
                "REGISTER sip:example.net SIP/2.0",
                "Via: SIP/2.0/UDP 10.0.0.7:5070;branch=z9hG4bKborder",
                "From: <sip:alice@example.net>;tag=reg",
                "To: <sip:alice@example.net>",
                "Call-ID: border",
                "CSeq: 1 REGISTER",
                f"Contact: {contact}",
                "Max-Forwards: 70",
                *headers,
            )
        ),
    )


@pytest.mark.parametrize(
    "claim",
    ['integrity-protected="yes"', "integrity-protected=tls-yes", 'Integrity-Protected = "auth-done"'],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_a_ue_does_not_speak_of_its_own_protection(claim: str, trusted: bool) -> None:
    book = Book(settings(access={"trusted": trusted}))
    registering(
        book,
        f"Authorization: {CREDENTIALS}, {claim}",
        f"authorization: Digest {claim} ,{CREDENTIALS[7:]}",
    )
    sent = book.request("REGISTER").headers.get_all("authorization")
    assert sent == [CREDENTIALS, CREDENTIALS]


def test_credentials_go_on_as_they_stand() -> None:
    book = Book()
    line = CREDENTIALS + ',opaque="a,integrity-protected=\\"yes\\""'
    registering(book, f"Authorization: {line}")
    assert book.request("REGISTER").headers.get_all("authorization") == [line]


@pytest.mark.parametrize(
    "line",
    [
        f"{CREDENTIALS}, Digest integrity-protected=yes",
        f"{CREDENTIALS};integrity-protected=yes",
        f'{CREDENTIALS},opaque=",integrity-protected=yes',
        "integrity-protected=yes",
    ],
)
def test_credentials_that_hide_such_a_claim_are_refused(line: str) -> None:
    book = Book()
    registering(book, f"Authorization: {line}")
    assert book.response(400)
