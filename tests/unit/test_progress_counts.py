"""How far a deployment has come: what Pulumi told of its resources, counted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from graphql_api.domain.progress import (
    NO_PROGRESS,
    ResourceOperation,
    ResourceProgress,
    Resources,
    ResourceState,
)
from tests.builders import NOON, SECOND

GONE = {ResourceOperation.DELETE, ResourceOperation.DELETE_REPLACED, ResourceOperation.REPLACE}
TOLD = st.builds(
    ResourceProgress,
    urn=st.sampled_from([f"urn:pulumi:dev::shop::a:b:C::r{n}" for n in range(6)]),
    type=st.just("a:b:C"),
    operation=st.sampled_from(ResourceOperation),
    state=st.sampled_from(ResourceState),
    started_at=st.integers(0, 100).map(lambda n: NOON + n * SECOND),
    ended_at=st.none(),
)
TOTALS = st.none() | st.integers(0, 100)
ANYTHING = settings(database=None, deadline=None)


def resources_of(told: list[ResourceProgress]) -> Resources:
    resources = Resources()
    for one in told:
        resources.put(one)
    return resources


@ANYTHING
@given(told=st.lists(TOLD))
def test_each_operation_on_each_resource_stands_as_it_was_told_last(told: list[ResourceProgress]) -> None:
    """In the order in which they began, and each with the time at which it was first heard of."""
    last = {(one.urn, one.operation): one for one in told}
    first = {(one.urn, one.operation): one for one in reversed(told)}
    order = list(dict.fromkeys((one.urn, one.operation) for one in told))

    resources = resources_of(told)

    assert resources.all() == [replace(last[key], started_at=first[key].started_at) for key in order]
    assert len(resources) == len(order)
    assert resources.unfinished() == [one for one in resources.all() if one.state is ResourceState.IN_PROGRESS]


@ANYTHING
@given(told=st.lists(TOLD), total=TOTALS)
def test_the_counts_are_those_of_the_resources(told: list[ResourceProgress], total: int | None) -> None:
    """Each kind of operation in each state once, none of zero, in the order of both; together they are all."""
    resources = resources_of(told)
    operations, states = list(ResourceOperation), list(ResourceState)

    counts = resources.progress(total).counts

    places = [(operations.index(one.operation), states.index(one.state)) for one in counts]
    assert places == sorted(set(places))
    assert all(
        one.count == sum((it.operation, it.state) == (one.operation, one.state) for it in resources.all()) > 0
        for one in counts
    )
    assert sum(one.count for one in counts) == len(resources)


@ANYTHING
@given(told=st.lists(TOLD), total=TOTALS)
def test_the_total_is_never_less_than_what_is_there(told: list[ResourceProgress], total: int | None) -> None:
    """A guess that proves too small grows; where there is none, none is made up."""
    resources = resources_of(told)

    guess = resources.progress(total).total

    assert guess == (None if total is None else max(total, len(resources)))


@ANYTHING
@given(told=st.lists(TOLD))
def test_what_is_in_some_states_and_what_is_left_is_counted(told: list[ResourceProgress]) -> None:
    """What was deleted, and the step that ties a replacement, leave no resource; all else does."""
    resources = resources_of(told)
    progress = resources.progress(None)

    for state in ResourceState:
        assert progress.count(state) == sum(one.state is state for one in resources.all())
    assert progress.count(*ResourceState) == len(resources)
    assert progress.left == sum(one.operation not in GONE for one in resources.all())


def test_nothing_told_is_no_progress() -> None:
    """An empty deployment has no counts, and nothing is left of it."""
    assert Resources().progress(None) == NO_PROGRESS
    assert NO_PROGRESS.left == 0


def test_a_resource_is_named_by_the_end_of_its_urn() -> None:
    """A URN's parts are divided by two colons, and types have single ones."""
    resource = ResourceProgress(
        "urn:pulumi:dev::shop::a:b:C$d:e:F::the:name",
        "d:e:F",
        ResourceOperation.CREATE,
        ResourceState.DONE,
        NOON,
        NOON + timedelta(seconds=1),
    )

    assert resource.name == "the:name"
