"""What no database has a type for, as text; and what a database refuses to hold."""

from __future__ import annotations

from datetime import timedelta

import pytest
from bson.errors import InvalidDocument
from pymongo.errors import DocumentTooLarge

from graphql_api.adapters.mongo.database import open_mongo
from graphql_api.adapters.stored import (
    cancellation_text,
    failure_text,
    outputs_text,
    progress_text,
    read_cancellation,
    read_failure,
    read_outputs,
    read_progress,
)
from graphql_api.adapters.stored_requests import read_what
from graphql_api.domain.errors import StoreRefused
from graphql_api.domain.progress import NO_PROGRESS
from graphql_api.domain.records import StackOutput
from tests.builders import FAILURE, OUTPUTS


def test_letters_take_no_more_room_than_they_have() -> None:
    """Outputs that were within their limit as they came stay so as they are stored, in whatever language."""
    text = outputs_text([StackOutput("x", "日" * 1000)])

    assert len(text.encode()) < 3100


def test_what_utf_8_cannot_hold_is_stored_and_read_again() -> None:
    """Halves of characters and NULs are escaped, so that every database takes the text, and come back as they were."""
    outputs = (*OUTPUTS, StackOutput("half \ud83d", {"\ude00 ": "\x00 \\ud800"}))

    assert read_outputs(outputs_text(outputs).encode().decode()) == outputs
    assert read_failure((failure_text(FAILURE) or "").encode().decode()) == FAILURE


def test_no_progress_and_no_cancellation_are_stored_as_nothing() -> None:
    """So they are what records have from before there was any."""
    assert (progress_text(NO_PROGRESS), read_progress(None)) == (None, NO_PROGRESS)
    assert (cancellation_text(None), read_cancellation(None)) == (None, None)


@pytest.mark.parametrize("what", ['{"cancel": {"reason": "whim", "force": false}}', "{}", "[]", '{"extend": {}}', "no"])
def test_what_is_no_request_is_not_taken_for_one(what: str) -> None:
    """Text of another program, or of another version, ends no deployment."""
    with pytest.raises((ValueError, KeyError)):
        read_what(what)


@pytest.mark.parametrize("error", [DocumentTooLarge("BSON document too large (20000000 bytes)"), InvalidDocument("x")])
async def test_what_mongodb_cannot_hold_is_refused_in_our_words(error: Exception) -> None:
    """The driver refuses it before the server is asked; no caller sees the driver's own error."""
    async with open_mongo("mongodb://127.0.0.1:1/x", timedelta(seconds=1)) as database:

        async def refuse() -> None:
            raise error

        with pytest.raises(StoreRefused, match="MongoDB can't hold what was to be stored"):
            await database.ask(refuse)
