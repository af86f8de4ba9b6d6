"""A service with the fake Pulumi, for every test of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import fake_pulumi
from tests.service import Service, running_service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    fake_pulumi.install(tmp_path / "bin")
    async with running_service(tmp_path) as running:
        yield running
