"""The lean path of subscriptions: what many are told is worked out and encoded once, and sent in one loop.

Every subscriber begins with a source of its own, so that what it is told is right whatever the others do. Those who are
at the same place are given the same event object, and what it becomes depends on nothing but the operation, its
variables and the caller's rights: who shares these is in one group, and shares the work.

Of a log whose end they have reached, a group follows one source for all its members. Who joins it closes its own; who
can't take an answer at once leaves it, and goes on with its own again from where it was. Nothing else knows of this.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial

from graphql_api.domain.callers import Caller
from graphql_api.schema.operations import (
    Operations,
    Place,
    Prepared,
    RequestRefused,
    Subscription,
    Variables,
    failure,
    place,
)
from graphql_api.transport.encoding import encode

#: An encoded answer, or what will be one.
Frame = bytes | asyncio.Future[bytes]
#: How many events' answers are remembered for those who are a little behind.
REMEMBERED = 4
#: To how many members an answer is sent before others have their turn.
SENT_AT_ONCE = 100


class Recipient(ABC):
    """Who is given the answers to a subscription, each as JSON."""

    __slots__ = ()

    @abstractmethod
    def sent(self, frame: bytes) -> bool:
        """Send an answer, if that takes no waiting; whether it did. Nothing is raised: it would end all others, too."""

    @abstractmethod
    async def send(self, frame: bytes) -> None:
        """Send an answer, as soon as there is room for it."""


class FanOut:
    """Gives each subscriber the encoded answers to its subscription."""

    def __init__(self, operations: Operations, sent_at_once: int = SENT_AT_ONCE) -> None:
        self._operations = operations
        self._sent_at_once = sent_at_once
        self._groups = dict[Hashable, _Group]()

    async def follow(self, prepared: Prepared, variables: Variables, caller: Caller) -> AsyncGenerator[bytes, None]:
        """The answers, each as JSON, until the subscription completes. Raises RequestRefused, at once or when it ends.

        Whether the caller may, and whether the variables fit, is seen before anything is shared.
        """
        subscription = await self._operations.subscribe(prepared, variables, caller)
        return self._frames(subscription, prepared, variables, caller)

    async def give(self, prepared: Prepared, variables: Variables, caller: Caller, recipient: Recipient) -> None:
        """Send the recipient what ``follow`` gives. Raises what that raises, and what sending does."""
        subscription = await self._operations.subscribe(prepared, variables, caller)
        with self._sharing(prepared, variables, caller) as group:
            async with aclosing(_Member(group, recipient)) as member:
                while (seq := await member.catches_up(subscription)) is not None:
                    del subscription  # a member needs none
                    if (seq := await member.told(seq)) is None:
                        return
                    subscription = await group.begin(seq)

    async def _frames(
        self, subscription: Subscription, prepared: Prepared, variables: Variables, caller: Caller
    ) -> AsyncGenerator[bytes, None]:
        with self._sharing(prepared, variables, caller) as group:
            async with aclosing(group.answers(subscription)) as answers:
                async for _, frame in answers:
                    yield frame

    @property
    def followed(self) -> int:
        """How many subscribers there are."""
        return sum(group.sharers for group in self._groups.values())

    @contextmanager
    def _sharing(self, prepared: Prepared, variables: Variables, caller: Caller) -> Iterator[_Group]:
        key = prepared, _told_apart(variables), caller.rights
        group = self._groups.get(key)
        if group is None:
            begin = partial(self._operations.subscribe, prepared, variables, caller)
            group = self._groups[key] = _Group(begin, self._sent_at_once)
        group.sharers += 1
        try:
            yield group
        finally:
            group.sharers -= 1
            if group.sharers == 0:
                del self._groups[key]


class _Member:
    """A subscriber of a group: by itself until it has come to where the others are, then told with them."""

    __slots__ = ("_group", "end", "recipient")

    def __init__(self, group: _Group, recipient: Recipient) -> None:
        self.recipient = recipient
        self._group = group
        #: After which seq it goes on by itself, or how it ends; done as soon as it leaves.
        self.end: asyncio.Future[int | RequestRefused | None]

    async def catches_up(self, subscription: Subscription) -> int | None:
        """Follow the subscription until the group can tell what comes after this seq; None when all is told."""
        async with aclosing(self._group.answers(subscription)) as answers:
            async for event, frame in answers:
                if not self.recipient.sent(frame):
                    await self.recipient.send(frame)
                elif (at := place(event)) and await self._group.goes_on_after(at):
                    return at.seq
        return None

    async def told(self, seq: int) -> int | None:
        """Be told what comes after this seq, until it has to go on by itself after another; None when all is told.

        Raises RequestRefused when the subscription ends with that.
        """
        self.end = asyncio.get_running_loop().create_future()
        self._group.join(self, seq)
        try:
            end = await self.end
        finally:
            await self._group.leave(self)
        if isinstance(end, RequestRefused):
            raise RequestRefused(end.errors)  # one of its own, or its traceback would grow by those of all others
        return end

    async def aclose(self) -> None:
        """Leave the group."""
        await self._group.leave(self)


class _Group:
    """Subscribers who ask for the same: the answers to the newest events, and who is told of them together."""

    def __init__(self, begin: Callable[[int], Awaitable[Subscription]], sent_at_once: int) -> None:
        #: Makes a subscription that goes on after a seq.
        self.begin = begin
        self._sent_at_once = sent_at_once
        self.sharers = 0
        # By the identity of the event, which is kept beside, so that no other gets its id.
        self._recent = OrderedDict[int, tuple[object, Frame]]()
        self._members = set[_Member]()
        self._seq: int | None = None  # up to which members have been told, or are being told
        self._telling: asyncio.Task[None] | None = None

    async def answers(self, subscription: Subscription) -> AsyncGenerator[tuple[object, bytes], None]:
        """The subscription's events, each with the encoded answer to it. Raises RequestRefused."""
        async with aclosing(subscription.events) as events:
            try:
                async for event in events:
                    frame = self._answer(subscription, event)
                    yield event, frame if isinstance(frame, bytes) else await frame
            except Exception as error:
                raise failure(error) from error

    def _answer(self, subscription: Subscription, event: object) -> Frame:
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

    # --- members

    async def goes_on_after(self, at: Place) -> bool:
        """Whether the group tells what comes after this place; it begins to where it tells nothing yet."""
        if not at.waits or self.sharers == 1:
            return False
        if self._telling is None:
            self._seq = at.seq
            self._telling = asyncio.create_task(self._tell(at.seq), name="tell subscribers")
        elif self._seq != at.seq:
            await asyncio.sleep(0)  # who tells the others is woken in the same turn, perhaps a moment later
        return self._seq == at.seq

    def join(self, member: _Member, seq: int) -> None:
        """Tell the member what comes after this seq; if that is told already, it has to go on by itself."""
        if self._seq == seq:
            self._members.add(member)
        else:
            member.end.set_result(seq)

    async def leave(self, member: _Member) -> None:
        """Tell the member nothing more; when the last has left, nothing is followed for them any more."""
        self._members.discard(member)
        if self._telling is not None and not self._members:
            telling, self._telling, self._seq = self._telling, None, None
            telling.cancel()
            await asyncio.wait([telling])

    async def _tell(self, seq: int) -> None:
        """Tell the members what comes after this seq, until there is nothing more."""
        end = None
        try:
            async with aclosing(self.answers(await self.begin(seq))) as answers:
                async for event, frame in answers:
                    at = place(event)
                    self._seq = at.seq if at else None
                    await self._pass_on(frame, seq)
                    seq = at.seq if at else seq
        except Exception as error:
            refused = error if isinstance(error, RequestRefused) else failure(error)
            end = RequestRefused(refused.errors)  # without a traceback, which would hold on to all members
        if self._telling is not asyncio.current_task():
            return  # all had left, and others may have come
        members, self._members = self._members, set()
        self._telling = self._seq = None
        for member in members:
            if not member.end.done():
                member.end.set_result(end)

    async def _pass_on(self, frame: bytes, seq: int) -> None:
        """Send it to all members; who can't take it at once goes on by itself after ``seq``, which came before it."""
        for number, member in enumerate(list(self._members), start=1):
            if not member.end.done() and not member.recipient.sent(frame):
                self._members.discard(member)
                member.end.set_result(seq)
            if number % self._sent_at_once == 0:
                await asyncio.sleep(0)


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
