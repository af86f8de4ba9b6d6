"""Deploys thousands of times through one service, and tells what grew. The exit code is 0 only if nothing did."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.course import run
from tests.soak.samples import KEPT, MIB, Trend, trends

BYTES = ("memory", "database", "state", "elsewhere")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deployments", type=int, default=2000)
    parser.add_argument("--retention-days", type=float, default=0, help="0, the default, keeps all for ever")
    parser.add_argument("--newest", type=int, default=2, help="how many of each cloud resource are kept all the same")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        variables = {
            "STACKCAST_RETENTION_DAYS": str(options.retention_days),
            "STACKCAST_RETENTION_NEWEST": str(options.newest),
        }
        samples, ended = asyncio.run(run(Path(directory), options.deployments, variables, report))
    minutes = (time.monotonic() - started) / 60
    report(f"{options.deployments} deployments in {minutes:.1f} minutes: {dict(ended)}")
    judged = [trend for trend in trends(samples) if options.retention_days or trend.name not in KEPT]
    for trend in trends(samples):
        report(line(trend, is_judged=trend in judged))
    growing = [trend.name for trend in judged if trend.grows]
    report(f"GROWING: {', '.join(growing)}" if growing else "nothing grows that should not")
    return 1 if growing else 0


def line(trend: Trend, *, is_judged: bool) -> str:
    unit, factor = (" MiB", MIB) if trend.name in BYTES else ("", 1)
    word = ("GROWS" if trend.grows else "flat") if is_judged else "kept"
    each = f"{trend.each:+,.0f} bytes" if trend.name in BYTES else f"{trend.each:+.4f}"
    span = f"{trend.first / factor:,.2f} to {trend.last / factor:,.2f}{unit}"
    noise = f"drift {trend.drift / factor:+,.2f}{unit}, noise {trend.error / factor:.2f}"
    return f"  {word:<5} {trend.name:<16} {span}; {each} a deployment ({noise})"


def report(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
