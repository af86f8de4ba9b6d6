"""From the start of the service's process to its first answer, on an empty data directory; and its memory when idle.

The fork server counts as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from tests.bench.process import CLIENT_CORE, SERVER_CORE, memory, on_cores, serving
from tests.bench.report import Figure, Measure
from tests.bench.stage import Stage
from tests.processes import children

ANSWER = Measure("start → first answer", "s", "≤", 1)
MEMORY = Measure("idle memory", "MiB", "≤", 80)
QUERY = "{ stackUpdates(first: 1) { edges { node { id } } } serverInfo { version } }"
#: What the service still does after its first answer, it has done by then, in seconds.
SETTLED = 1.0


async def measure(stage: Stage) -> AsyncIterator[Figure]:
    """A service started anew in each round."""
    answers, memories = [], []
    with on_cores(CLIENT_CORE):
        for _ in range(stage.scale.warm_up + stage.scale.rounds):
            begun = time.perf_counter()
            async with serving(stage.directory(), SERVER_CORE) as (service, pid):
                await service.execute(QUERY)
                answers.append(time.perf_counter() - begun)
                await asyncio.sleep(SETTLED)
                memories.append(sum(memory(one) for one in (pid, *children(pid))))
    yield ANSWER.found(answers[stage.scale.warm_up :])
    yield MEMORY.found(memories[stage.scale.warm_up :])
