"""Programs that print more, and other things, than anybody expects."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import Start
from tests.service import manifest

pytestmark = pytest.mark.external

KEPT = 256 * 1024
#: What 20 MB of output, or a line of 5 MB, may cost the service, in KiB: a fraction of either's many copies.
BOUND = 32 * 1024


def peak_memory(pid: int) -> int:
    """The most memory that a process ever had, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize(
    ("spec", "last"),
    [("{lines: 100000}", "line 0099999 " + "." * 46), ("{long: 5000000}", "LLL the end of the long line")],
)
async def test_however_much_is_printed_the_end_is_kept_and_memory_is_bounded(
    start: Start, spec: str, last: str
) -> None:
    """100,000 lines, or one of 5 MB: SUCCESS with the last 256 KiB, marked as cut, and the service hardly grows."""
    async with start() as running:
        service = running.service
        await service.outcome(await service.deploy(manifest()))
        before = peak_memory(running.process.pid)
        ended = await service.outcome(await service.deploy(manifest(spec=spec)))
        grown = peak_memory(running.process.pid) - before

    assert (ended["status"], ended["exitCode"], ended["failure"]) == ("SUCCESS", 0, None)
    output = ended["output"]
    assert output["stdout_truncated"] is True
    assert "stderr_truncated" not in output
    assert len(output["stdout"].encode()) == KEPT
    assert f"{last}\n" in output["stdout"]
    assert "Resources:" in output["stdout"]
    assert grown < BOUND


async def test_bytes_that_are_no_text_become_text(start: Start) -> None:
    """Invalid UTF-8 is replaced, NULs and colours are left out, and the words around them are kept; it is SUCCESS."""
    async with start() as running:
        ended = await running.service.outcome(await running.service.deploy(manifest(spec="{dirty: true}")))

    assert (ended["status"], ended["failure"]) == ("SUCCESS", None)
    assert "before \ufffd\ufffd\ufffd(  red after\n" in ended["output"]["stdout"]
    assert "\0" not in ended["output"]["stdout"]
    assert "\x1b" not in ended["output"]["stdout"]


async def test_a_failure_of_bytes_that_are_no_text_is_a_failure_with_a_sentence(start: Start) -> None:
    """A program that fails with such bytes ends FAILED, with text only, and the next deployment works."""
    async with start() as running:
        service = running.service
        ended = await service.outcome(await service.deploy(manifest(spec="{dirty: true, fail: bad}")))
        after = await service.outcome(await service.deploy(manifest()))

    assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", "PROGRAM_ERROR")
    assert ended["failure"]["message"].startswith("The module's program failed: ")
    assert not set("\0\x1b") & set(ended["failure"]["message"])
    assert after["status"] == "SUCCESS"
