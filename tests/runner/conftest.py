from __future__ import annotations

from collections.abc import Iterator

import pytest

from runners.fork_server import ForkServer


@pytest.fixture(scope="session")
def supervisors() -> Iterator[ForkServer]:
    """Where all these tests have their supervisors from."""
    with ForkServer() as server:
        yield server
