"""What probes ask: whether the process answers, and whether the service could do its work now."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from graphql_api.domain.errors import StackcastError

_OK = "ok"
_STORE_SILENT = "The store does not answer. The service's log says why."
_WORKER_GONE = "The worker has stopped. Restart the service; its log says why."
_NO_PULUMI = "There is no Pulumi CLI on the service's PATH. Install one; no restart is needed."
_PULUMI_SILENT = "The Pulumi CLI does not answer. The service's log says why."

_log = logging.getLogger("stackcast")


async def healthz(_: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": _OK})


class Readiness:
    """The store answers, the worker works and there is a Pulumi CLI; otherwise 503 and a sentence.

    Anybody may ask, so paths and a driver's words go to the log alone: once, until they change.
    """

    def __init__(
        self,
        ping_store: Callable[[], Awaitable[None]],
        worker_has_stopped: Callable[[], bool],
        find_pulumi: Callable[[], Awaitable[object | None]],
    ) -> None:
        self._ping_store = ping_store
        self._worker_has_stopped = worker_has_stopped
        self._find_pulumi = find_pulumi
        self._logged: dict[str, str] = {}

    async def answer(self, _: Request) -> Response:
        """Ask all three."""
        checks = {
            "store": await self._store(),
            "worker": _WORKER_GONE if self._worker_has_stopped() else _OK,
            "pulumi": await self._pulumi(),
        }
        ready = all(answer == _OK for answer in checks.values())
        return JSONResponse({"status": _OK if ready else "not ready", **checks}, 200 if ready else 503)

    async def _store(self) -> str:
        try:
            await self._ping_store()
        except StackcastError as error:
            return self._failed("store", error, _STORE_SILENT)
        return self._well("store", _OK)

    async def _pulumi(self) -> str:
        try:
            found = await self._find_pulumi()
        except StackcastError as error:
            return self._failed("pulumi", error, _PULUMI_SILENT)
        return self._well("pulumi", _NO_PULUMI if found is None else _OK)

    def _failed(self, part: str, error: StackcastError, answer: str) -> str:
        if self._logged.get(part) != error.message:
            self._logged[part] = error.message
            _log.warning("not ready: %s", error.message)
        return answer

    def _well(self, part: str, answer: str) -> str:
        self._logged.pop(part, None)
        return answer
