"""Who a token is."""

from __future__ import annotations

import pytest

from graphql_api.domain.callers import ANYBODY, Caller, Right
from graphql_api.transport.access import Access

ANNS, BOBS, NOBODYS = "anns-token-of-24-letters", "bobs-token-of-24-letters", "nameless-token-of-32-characters!"
EVERYTHING = frozenset(Right)
TOKENS = {ANNS: "ann", BOBS: "bob", NOBODYS: None}


@pytest.mark.parametrize(("token", "name"), TOKENS.items())
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_each_token_is_its_caller(token: str, name: str | None, scheme: str) -> None:
    """Whichever place it has among them, and however the scheme is written."""
    assert Access(TOKENS).identify(f"{scheme} {token}") == Caller(name, EVERYTHING)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Bearer x", "Bearer anything \ud800"])
def test_without_tokens_everybody_is_let_in(authorization: str | None) -> None:
    """A service on loopback asks for none, so what is sent does not matter."""
    assert Access({}).identify(authorization) == ANYBODY


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        ANNS,
        "Bearer",
        "Bearer ",
        f"Basic {ANNS}",
        f"Bearer {ANNS[:-1]}",
        f"Bearer {ANNS}x",
        f"Bearer {ANNS} {BOBS}",
        f"Bearer {ANNS}{BOBS}",
        f"Bearer {ANNS.upper()}",
        "Bearer ann",
        "Bearer é\ud800",
    ],
)
def test_nobody_is_let_in_by_anything_else(authorization: str | None) -> None:
    """Neither a part of a token, nor two of them, nor a name."""
    assert Access(TOKENS).identify(authorization) is None
