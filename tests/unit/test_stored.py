"""What no database has a type for, as text; and what a database refuses to hold."""

from __future__ import annotations

from datetime import timedelta

import pytest
from bson.errors import InvalidDocument
from pymongo.errors import DocumentTooLarge

from graphql_api.adapters.mongo.database import open_mongo
from graphql_api.adapters.stored import failure_text, outputs_text, read_failure, read_outputs
from graphql_api.domain.errors import StoreRefused
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


@pytest.mark.parametrize("error", [DocumentTooLarge("BSON document too large (20000000 bytes)"), InvalidDocument("x")])
async def test_what_mongodb_cannot_hold_is_refused_in_our_words(error: Exception) -> None:
    """The driver refuses it before the server is asked; no caller sees the driver's own error."""
    async with open_mongo("mongodb://127.0.0.1:1/x", timedelta(seconds=1)) as database:

        async def refuse() -> None:
            raise error

        with pytest.raises(StoreRefused, match="MongoDB can't hold what was to be stored"):
            await database.ask(refuse)
