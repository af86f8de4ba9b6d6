"""The benchmark runs, and reports every measure; what it measures is for those who read it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from runners.toolchain import PulumiCli
from tests.bench import deploy, fanout, flood, history, latency, pickup, queries, start

MEASURES = [
    *(deploy.UPDATE, deploy.NEW, deploy.EIGHT, pickup.MEASURE, latency.P50, latency.P99),
    *(*fanout.SAME.values(), fanout.MEMORY, fanout.DIFFERENT, *queries.GOALS.values(), history.DEEP),
    *(flood.PACE, flood.MEMORY, start.ANSWER, start.MEMORY),
]


@pytest.mark.external
@pytest.mark.timeout(300)
async def test_the_short_benchmark_reports_every_measure(tmp_path: Path, pulumi_cli: PulumiCli) -> None:
    """Each has a value of each system in JSON, a row in the table, and a place in the picture."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench", "--short", "--output", str(tmp_path)),
        env={**os.environ, "PATH": f"{pulumi_cli.path.parent}{os.pathsep}{os.environ['PATH']}"},
    )
    await process.wait()

    assert process.returncode == 0
    figures = {one["measure"]: one for one in json.loads((tmp_path / "bench.json").read_text())["figures"]}
    titles = {measure.title for measure in MEASURES}
    assert titles <= figures.keys()
    assert [title for title, figure in figures.items() if not (figure["values"] and figure["median"] > 0)] == []
    table = (tmp_path / "bench.md").read_text()
    assert [title for title in titles if f"| {title} |" not in table] == []
    texts = {element.text for element in ET.parse(tmp_path / "bench.svg").iter()}  # noqa: S314 (our own)
    assert titles <= texts
