"""The lean path of subscriptions: what many are told is worked out and encoded once.

Every subscriber follows a source of their own, so that what they are told is right whatever the others do. Those who
are at the same place are given the same event object, and what it becomes depends on nothing but the operation, its
variables and the caller's rights: who shares these shares the work. Nothing else knows of this.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, Hashable, Iterator
from contextlib import aclosing, contextmanager

from graphql_api.domain.callers import Caller
from graphql_api.schema.operations import Operations, Prepared, Subscription, Variables, failure
from graphql_api.transport.encoding import encode

#: An encoded answer, or what will be one.
Frame = bytes | asyncio.Future[bytes]
#: How many events' answers are remembered for those who are a little behind.
REMEMBERED = 4


class FanOut:
    """Gives each subscriber the encoded answers to its subscription."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._shared = dict[Hashable, _Answers]()

    async def follow(self, prepared: Prepared, variables: Variables, caller: Caller) -> AsyncGenerator[bytes, None]:
        """The answers, each as JSON, until the subscription completes. Raises RequestRefused, at once or when it ends.

        Whether the caller may, and whether the variables fit, is seen before anything is shared.
        """
        subscription = await self._operations.subscribe(prepared, variables, caller)
        return self._frames(subscription, (prepared, _told_apart(variables), caller.rights))

    async def _frames(self, subscription: Subscription, key: Hashable) -> AsyncGenerator[bytes, None]:
        with self._sharing(key) as answers:
            async with aclosing(subscription.events) as events:
                try:
                    async for event in events:
                        frame = answers.of(subscription, event)
                        yield frame if isinstance(frame, bytes) else await frame
                except Exception as error:
                    raise failure(error) from error

    @property
    def followed(self) -> int:
        """How many subscribers there are."""
        return sum(answers.sharers for answers in self._shared.values())

    @contextmanager
    def _sharing(self, key: Hashable) -> Iterator[_Answers]:
        answers = self._shared.setdefault(key, _Answers())
        answers.sharers += 1
        try:
            yield answers
        finally:
            answers.sharers -= 1
            if answers.sharers == 0:
                del self._shared[key]


class _Answers:
    """The answers to the newest events of what some subscribers share."""

    def __init__(self) -> None:
        self.sharers = 0
        # By the identity of the event, which is kept beside, so that no other gets its id.
        self._recent = OrderedDict[int, tuple[object, Frame]]()

    def of(self, subscription: Subscription, event: object) -> Frame:
        """The answer: at once, where nothing has to be waited for."""
        found = self._recent.get(id(event))
        if found is not None:
            frame = found[1]
        else:
            frame = _frame(subscription, event)
            if self.sharers > 1:
                self._recent[id(event)] = event, frame
                if len(self._recent) > REMEMBERED:
                    self._recent.popitem(last=False)
        return frame if isinstance(frame, bytes) else asyncio.shield(frame)


def _told_apart(variables: Variables) -> Hashable:
    try:
        return json.dumps(variables, sort_keys=True)
    except RecursionError:  # nested as deep as could just be read: shared with nobody
        return object()


def _frame(subscription: Subscription, event: object) -> Frame:
    answer = subscription.answer(event)
    if isinstance(answer, dict):
        return encode(answer)

    async def encoded() -> bytes:
        return encode(await answer)

    # A task of its own: whoever asked first may leave while others wait.
    return asyncio.create_task(encoded(), name="answer subscribers")
