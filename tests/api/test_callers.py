"""Callers with names: what they ask for bears their names, and nobody is given another's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from graphql_api.domain.errors import StartRefused
from tests import fake_pulumi
from tests.service import APPLY, Answer, Service, manifest, receive, running_service

ANNS, BOBS, NOBODYS = "anns-token-of-24-letters", "bobs-token-of-24-letters", "token-without-a-name"
TOKENS = f"# who may ask\nann:{ANNS}\nbob:{BOBS}\n"
DEPLOY = """
mutation ($id: ID!, $key: String) {
  deployCloudResource(input: {cloudResourceId: $id, idempotencyKey: $key}) {
    ... on DeployCloudResourceSuccess { joined stackUpdate { id requestedBy } }
  }
}"""
CANCEL = """
mutation ($id: ID!) {
  cancelStackUpdate(input: {id: $id}) {
    ... on CancelStackUpdateSuccess { stackUpdate { requestedBy cancellation { reason requestedBy } } }
  }
}"""


def tokens_file(root: Path, text: str = TOKENS) -> str:
    """A file of tokens that only its owner may read."""
    file = root / "tokens"
    file.touch(mode=0o600)
    file.write_text(text)
    return str(file)


def as_(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def ask(service: Service, token: str, query: str, **variables: Any) -> Any:
    """The one field of the answer to whoever has the token."""
    answer = await service.post({"query": query, "variables": variables}, as_(token))
    assert answer.status == 200, answer.body
    assert "errors" not in answer.json, answer.json
    (field,) = answer.json["data"].values()
    return field


async def a_resource(service: Service) -> str:
    """The id of a cloud resource whose deployment takes a minute."""
    service.module("Thing", sleep=60)
    id_: str = (await ask(service, ANNS, APPLY, manifest=manifest()))["cloudResource"]["id"]
    return id_


async def test_a_deployment_bears_the_name_of_its_token(tmp_path: Path) -> None:
    """Each named token has its own, STACKCAST_TOKEN none; over a websocket as over HTTP; a cancellation has its own."""
    fake_pulumi.install(tmp_path / "bin")
    variables = {"STACKCAST_TOKENS_FILE": tokens_file(tmp_path), "STACKCAST_TOKEN": NOBODYS}
    async with running_service(tmp_path, **variables) as service:
        id_ = await a_resource(service)
        deployed = [(await ask(service, token, DEPLOY, id=id_))["stackUpdate"] for token in (ANNS, BOBS, NOBODYS)]
        async with service.websocket({"authorization": f"Bearer {BOBS}"}) as socket:
            payload = {"query": DEPLOY, "variables": {"id": id_}}
            await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
            message = await receive(socket)
        cancelled = [
            (await ask(service, token, CANCEL, id=update["id"]))["stackUpdate"]
            for token, update in zip((BOBS, NOBODYS), deployed[1:], strict=True)
        ]

    assert [update["requestedBy"] for update in deployed] == ["ann", "bob", None]
    assert message["payload"]["data"]["deployCloudResource"]["stackUpdate"]["requestedBy"] == "bob"
    assert [update["requestedBy"] for update in cancelled] == ["bob", None]
    assert [update["cancellation"]["requestedBy"] for update in cancelled] == ["bob", None]


async def test_a_key_of_one_caller_is_none_of_anothers(tmp_path: Path) -> None:
    """The same key in another's hand asks for a deployment of its own; in the same hand it is answered again."""
    fake_pulumi.install(tmp_path / "bin")
    async with running_service(tmp_path, STACKCAST_TOKENS_FILE=tokens_file(tmp_path)) as service:
        id_ = await a_resource(service)
        answers = [await ask(service, token, DEPLOY, id=id_, key="once") for token in (ANNS, BOBS, ANNS, BOBS)]

    assert [answer["joined"] for answer in answers] == [False, False, True, True]
    assert [answer["stackUpdate"]["requestedBy"] for answer in answers] == ["ann", "bob", "ann", "bob"]
    assert answers[0]["stackUpdate"] == answers[2]["stackUpdate"] != answers[1]["stackUpdate"]


async def test_named_tokens_alone_close_the_service(tmp_path: Path) -> None:
    """Without STACKCAST_TOKEN nobody is let in but those in the file, over HTTP and over a websocket."""
    async with running_service(tmp_path, STACKCAST_TOKENS_FILE=tokens_file(tmp_path)) as service:
        headers: list[dict[str, str]] = [as_(ANNS), as_(BOBS), as_(NOBODYS), as_("ann"), {}]
        answers: list[Answer] = [await service.post({"query": "{ __typename }"}, header) for header in headers]

    assert [answer.status for answer in answers] == [200, 200, 401, 401, 401]
    assert not [answer for answer in answers if ANNS.encode() in answer.body]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no token"),
        ("ann:too-short\n", r"line 1 of .+ has no token that can be used"),
        (f"ann:{NOBODYS}\n", "the token of ann is that of STACKCAST_TOKEN"),
    ],
)
async def test_a_service_whose_tokens_are_wrong_does_not_start(tmp_path: Path, text: str, words: str) -> None:
    """Before anything is opened the start is refused with a sentence that holds no token."""
    variables = {"STACKCAST_TOKENS_FILE": tokens_file(tmp_path, text), "STACKCAST_TOKEN": NOBODYS}
    with pytest.raises(StartRefused, match=f"^STACKCAST_TOKENS_FILE can't be used: .*{words}") as refused:
        async with running_service(tmp_path, **variables):
            pass

    assert NOBODYS not in refused.value.message
    assert not (tmp_path / "data").exists()
