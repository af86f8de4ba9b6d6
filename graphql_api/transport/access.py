"""Decides who a caller is and what they may do: the only place that does."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from graphql_api.domain.callers import ANYBODY, Caller, Right


class Access:
    """Knows callers by their bearer tokens. Without any token everyone who reaches the server may do everything.

    ``tokens`` are the callers' names by their tokens; None names nobody.
    """

    def __init__(self, tokens: Mapping[str, str | None]) -> None:
        self._callers = [(token.encode(), Caller(name, frozenset(Right))) for token, name in tokens.items()]

    def identify(self, authorization: str | None) -> Caller | None:
        """The caller with this Authorization header, or its stand-in on a websocket; None when nobody is let in by it.

        How long it takes does not depend on how much of a token is right, nor on which one is.
        """
        if not self._callers:
            return ANYBODY
        scheme, _, given = (authorization or "").partition(" ")
        # JSON can carry half a character.
        token = given.strip().encode(errors="surrogatepass") if scheme.lower() == "bearer" else b""
        found = None
        for known, caller in self._callers:
            if secrets.compare_digest(token, known):
                found = caller
        return found
