"""Schemathesis: hundreds of right and wrong requests to every query and mutation that it finds by introspection."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from graphql import build_schema

from tests.acceptance.files import Files
from tests.clients.node import graphql_url
from tests.service import manifest

pytestmark = pytest.mark.external

ROOT = Path(__file__).parents[2]
LIMIT = 110.0  # seconds for the whole run, which takes half a minute
EXAMPLES = 20  # of each field
SEED = 7  # the same requests in every run


async def test_no_request_makes_the_service_fail(files: Files, tmp_path: Path) -> None:
    """What is wrong is refused with a client's code, what is right is answered as the schema says; nothing breaks."""
    update = await files.deploy(files.file("one"))
    ids = [update, await files.service.apply(manifest())]
    report, said = await schemathesis(graphql_url(files.service), tmp_path, ids)
    schema = build_schema((ROOT / "schema.graphql").read_text())
    assert schema.query_type
    assert schema.mutation_type
    fields = len(schema.query_type.fields) + len(schema.mutation_type.fields)

    assert report["failures"] == [], said
    assert report["errors"] == [], said
    assert (report["operations"]["tested"], report["exit_code"]) == (fields, 0)
    assert report["test_cases"]["generated"] >= 0.8 * EXAMPLES * fields
    assert (await files.ended(update))["status"] == "SUCCESS"


async def schemathesis(url: str, directory: Path, ids: list[str]) -> tuple[Any, str]:
    """The report of a run with positive and negative data, and what it printed."""
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        *("--no-color", "run", url, "--mode=all", f"--max-examples={EXAMPLES}", f"--seed={SEED}"),
        # Types can't say that an id has 24 hex digits, or that a page has up to 100 items: right types may be refused.
        "--exclude-checks=positive_data_acceptance",
        *("--continue-on-failure", "--report=json", "--report-json-path=report.json"),
        cwd=directory,
        env={
            **unmeasured,
            "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.clients.schemathesis_values",
            "STACKCAST_TEST_IDS": ",".join(ids),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(LIMIT):
            said = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return json.loads((directory / "report.json").read_text()), said
