"""Which server a command asks."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from graphql_api.cli.terminal import clean
from graphql_api.domain.errors import StartRefused
from graphql_api.settings import WILDCARDS, Settings


@dataclass(frozen=True)
class Target:
    """The server to ask, and the words with which the user named it, for a command to type again."""

    address: str
    token: str | None
    option: str = ""

    @classmethod
    def of(cls, settings: Settings, server: str | None) -> Target:
        """The server at an address, or where the settings say. Raises StartRefused when they don't."""
        token = settings.token.get_secret_value() if settings.token else None
        if server:
            return cls(server, token, f" --server {shlex.quote(server)}")
        if settings.port == 0:
            raise StartRefused(
                "STACKCAST_PORT is 0, which says nothing of where the server is: name its address with --server."
            )
        host = WILDCARDS.get(settings.host, settings.host)
        return cls(f"http://{f'[{host}]' if ':' in host else host}:{settings.port}", token)

    def command(self, *words: str) -> str:
        """A command that asks the same server, for a sentence."""
        return f"`stackcast {' '.join(map(clean, words))}{self.option}`"
