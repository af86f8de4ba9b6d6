"""Deploying through the API, with a fake Pulumi."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import aclosing
from pathlib import Path

from tests import fake_pulumi
from tests.runner.waiting import eventually
from tests.service import DEPLOY, Service, manifest, running_service

STATUSES = """
query ($filter: StackUpdateFilter, $first: Int, $after: String) {
  stackUpdates(filter: $filter, first: $first, after: $after) {
    totalCount
    nodes { id status cloudResourceId cloudResource { name } }
    pageInfo { hasNextPage endCursor }
  }
}"""
FAILURE = "query ($id: ID!) { stackUpdate(id: $id) { failure { message diagnostics { message urn } } } }"
SECRET = "very-hard-to-guess"  # noqa: S105 (a test's secret)
ENDINGS = {"status", "timestamp", "stack_fqdn", "stdout", "stderr", "exit_code"}


async def test_a_deployment_is_pushed_from_acceptance_to_success(service: Service) -> None:
    """The mutation answers at once with IN_PROGRESS; the subscription pushes each change, the outcome last."""
    service.module("Thing", stdout="hello", outputs={"url": "http://x"}, sleep=0.3)
    id_ = await service.apply(manifest())
    answer = (await service.execute(DEPLOY, id=id_))["deployCloudResource"]["stackUpdate"]

    changes = [change async for change in service.watch(answer["id"])]

    assert (answer["status"], answer["phase"], answer["timeoutSeconds"]) == ("IN_PROGRESS", "QUEUED", 600)
    assert changes[0]["status"] == "IN_PROGRESS"
    assert changes[-1]["status"] == "SUCCESS"
    assert changes[-1]["phase"] == "FINISHED"
    assert changes[-1]["exitCode"] == 0
    assert changes[-1]["failure"] is None
    assert changes[-1]["stackOutputs"] == [{"name": "url", "value": "http://x", "secret": False}]
    assert [change["revision"] for change in changes] == sorted({change["revision"] for change in changes})
    assert {key for change in changes[:-1] for key in (change["output"] or {})} == set()
    output = changes[-1]["output"]
    assert set(output) == ENDINGS
    assert (output["status"], output["exit_code"], output["stack_fqdn"]) == ("success", 0, "organization/tests/one")
    assert output["stdout"].strip() == "hello"


async def test_a_failed_deployment_says_why_with_the_same_output_keys(service: Service) -> None:
    """A program's error becomes the failure's sentence, and the output has an error beside the same keys."""
    service.module("Thing", error="bucket name is taken", stderr="trouble")

    ended = await service.outcome(await service.deploy(manifest()))

    assert ended["status"] == "FAILED"
    assert ended["failure"]["kind"] == "PROGRAM_ERROR"
    assert "bucket name is taken" in ended["failure"]["message"]
    assert ended["exitCode"] == 255
    assert set(ended["output"]) == ENDINGS | {"error"}
    assert ended["output"]["status"] == "failed"
    assert ended["output"]["error"] == ended["failure"]["message"]
    assert ended["output"]["stderr"].strip() == "trouble"


async def test_a_failure_carries_what_pulumi_reported(tmp_path: Path) -> None:
    """Pulumi's own errors stand beside the sentence, without the secrets that they quote."""
    fake_pulumi.install(tmp_path / "bin")
    async with running_service(tmp_path, STACKCAST_PASS_ENV="MY_KEY", MY_KEY=SECRET) as service:  # noqa: S106
        service.module("Thing", error=f"the key {SECRET} is refused " + "x" * 3000)
        id_ = await service.deploy(manifest())
        await service.outcome(id_)
        failure = (await service.execute(FAILURE, id=id_))["stackUpdate"]["failure"]

    [diagnostic] = failure["diagnostics"]
    assert diagnostic["urn"] is None
    assert diagnostic["message"].startswith("the key ")
    assert len(diagnostic["message"]) <= 2000
    assert diagnostic["message"] in failure["message"]
    assert SECRET not in json.dumps(failure)


async def test_a_watcher_who_comes_late_gets_the_outcome_and_the_end(service: Service) -> None:
    """Subscribing to an ended stack update pushes it once and completes."""
    service.module("Thing")
    id_ = await service.deploy(manifest())
    await service.outcome(id_)

    changes = [change async for change in service.watch(id_)]

    assert [change["status"] for change in changes] == ["SUCCESS"]


async def test_watching_an_unknown_stack_update_is_a_typed_answer(service: Service) -> None:
    """The subscription answers StackUpdateNotFound and completes."""
    changes = [change async for change in service.watch("0" * 24)]

    assert [(change["__typename"], change["code"]) for change in changes] == [
        ("StackUpdateNotFound", "STACK_UPDATE_NOT_FOUND")
    ]


async def test_deployments_of_one_stack_run_one_after_the_other_in_order(service: Service) -> None:
    """Three deployments of one stack never overlap, and end in the order in which they were accepted."""
    service.module("Thing", sleep=0.2)
    ids = [await service.deploy(manifest(spec=f"{{n: {number}}}")) for number in range(3)]

    ended = await asyncio.gather(*(service.outcome(id_) for id_ in ids))

    assert [change["status"] for change in ended] == ["SUCCESS"] * 3
    for earlier, later in itertools.pairwise(ended):
        assert earlier["finishedAt"] <= later["startedAt"]


async def test_each_of_many_at_once_gets_its_own_input(service: Service) -> None:
    """Deployments of one kind at once never see each other's manifest."""
    service.module("Thing", echo_input=True)
    names = [f"stack-{number}" for number in range(8)]
    ids = [await service.deploy(manifest(name=name, spec=f"{{who: {name}-input}}")) for name in names]

    ended = await asyncio.gather(*(service.outcome(id_) for id_ in ids))

    for name, change in zip(names, ended, strict=True):
        inputs = [line for line in change["output"]["stdout"].splitlines() if "-input" in line]
        assert inputs == [f"  spec: {{who: {name}-input}}"]


async def test_no_more_run_at_once_than_allowed(tmp_path: Path) -> None:
    """With STACKCAST_MAX_CONCURRENT=2, at most two of five deployments on different stacks overlap."""
    fake_pulumi.install(tmp_path / "bin")
    async with running_service(tmp_path, STACKCAST_MAX_CONCURRENT="2") as service:
        service.module("Thing", sleep=0.2)
        ids = [await service.deploy(manifest(name=f"stack-{number}")) for number in range(5)]
        ended = await asyncio.gather(*(service.outcome(id_) for id_ in ids))

    spans = [(change["startedAt"], change["finishedAt"]) for change in ended]
    overlaps = [sum(start <= moment < end for start, end in spans) for moment, _ in spans]
    assert max(overlaps) == 2


async def test_the_manifest_that_was_accepted_is_deployed(service: Service) -> None:
    """Changing a cloud resource while its deployment is queued does not change that deployment."""
    service.module("Thing", echo_input=True, sleep=0.3)
    first = await service.deploy(manifest(spec="{v: first}"))
    second = await service.deploy(manifest(spec="{v: second}"))
    await service.apply(manifest(spec="{v: third}"))

    outputs = [(await service.outcome(id_))["output"]["stdout"] for id_ in (first, second)]

    assert ["v: first" in outputs[0], "v: second" in outputs[1]] == [True, True]


async def test_a_deployment_that_takes_too_long_is_stopped(service: Service) -> None:
    """After timeoutSeconds Pulumi is asked to stop, and the record says TIMEOUT."""
    service.module("Thing", sleep=60)

    ended = await service.outcome(await service.deploy(manifest(), timeout=1))

    assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", "TIMEOUT")
    assert ended["timeoutSeconds"] == 1
    assert "1 s" in ended["failure"]["message"]
    assert set(ended["output"]) == ENDINGS | {"error"}


async def test_a_timeout_beyond_the_limit_is_cut_to_it(tmp_path: Path) -> None:
    """No deployment gets more than STACKCAST_DEPLOY_TIMEOUT_LIMIT."""
    fake_pulumi.install(tmp_path / "bin")
    async with running_service(tmp_path, STACKCAST_DEPLOY_TIMEOUT_LIMIT="50") as service:
        service.module("Thing")
        resource = await service.apply(manifest())
        answers = [await service.execute(DEPLOY, id=resource, timeout=timeout) for timeout in (2**31 - 1, None, 7)]

    assert [answer["deployCloudResource"]["stackUpdate"]["timeoutSeconds"] for answer in answers] == [50, 50, 7]


async def test_pulumi_sees_only_what_it_is_allowed_to(tmp_path: Path) -> None:
    """The service's token and unknown variables stay with the service; a secret that is passed is hidden in output."""
    fake_pulumi.install(tmp_path / "bin")
    names = {"STACKCAST_PASS_ENV": "MY_*", "MY_TOOL": "passed", "OTHER": "kept", "PULUMI_STACK": "x"}
    async with running_service(tmp_path, AWS_SECRET_ACCESS_KEY=SECRET, **names) as service:
        service.module("Thing", echo_environment=True)
        ended = await service.outcome(await service.deploy(manifest()))

    printed = ended["output"]["stdout"]
    environment = json.loads(printed.strip().splitlines()[-1])
    assert environment["MY_TOOL"] == "passed"
    assert environment["AWS_SECRET_ACCESS_KEY"].strip("[]") == "secret"
    assert not {"OTHER", "PULUMI_STACK", "STACKCAST_DATA_DIR"} & set(environment)
    assert SECRET not in json.dumps(ended)


async def test_a_long_input_is_handed_over_in_a_private_file(service: Service) -> None:
    """An input too long for a variable arrives whole through the file, and nothing of it stays on disk."""
    service.module("Thing", echo_input=True)
    text = manifest(spec=f'{{long: "{"x" * 140_000}"}}')

    ended = await service.outcome(await service.deploy(text))

    assert "x" * 140_000 in ended["output"]["stdout"]
    await eventually(lambda: not any((service.data / "runs").iterdir()))


async def test_long_output_keeps_its_end_and_says_so(service: Service) -> None:
    """Of more than 256 KiB the last 256 KiB are stored, with stdout_truncated."""
    service.module("Thing", stdout="a" * 300_000 + "the end")

    output = (await service.outcome(await service.deploy(manifest())))["output"]

    assert output["stdout_truncated"] is True
    assert len(output["stdout"]) == 256 * 1024
    assert output["stdout"].strip().endswith("the end")


async def test_stack_updates_are_filtered_and_paged_newest_first(service: Service) -> None:
    """The list filters by cloud resource and statuses, newest first, with a count of what matches."""
    service.module("Thing")
    service.module("Broken", error="no")
    ids = [await service.deploy(manifest(name="a", spec=f"{{n: {number}}}")) for number in range(3)]
    failed = await service.deploy(manifest("Broken", "b"))
    ended = [await service.outcome(id_) for id_ in (*ids, failed)]
    assert [change["status"] for change in ended] == ["SUCCESS"] * 3 + ["FAILED"]

    async def listed(**arguments: object) -> tuple[list[str], int]:
        page = (await service.execute(STATUSES, **arguments))["stackUpdates"]
        return [node["id"] for node in page["nodes"]], page["totalCount"]

    resource = (await service.execute(STATUSES))["stackUpdates"]["nodes"][-1]["cloudResourceId"]
    assert await listed() == ([failed, *reversed(ids)], 4)
    assert await listed(filter={"statuses": ["FAILED"]}) == ([failed], 1)
    assert await listed(filter={"statuses": ["FAILED", "SUCCESS"]}) == ([failed, *reversed(ids)], 4)
    assert await listed(filter={"statuses": []}) == ([], 0)
    assert await listed(filter={"statuses": None, "cloudResourceId": resource}) == (list(reversed(ids)), 3)
    assert await listed(filter={"cloudResourceId": resource, "statuses": ["FAILED"]}) == ([], 0)
    assert await listed(first=2) == ([failed, ids[2]], 4)


async def test_shutting_down_ends_deployments_and_says_so(tmp_path: Path) -> None:
    """A shutdown stops what does not finish in time, records it as SERVICE_STOPPED, and leaves the rest queued."""
    fake_pulumi.install(tmp_path / "bin")
    async with running_service(tmp_path, STACKCAST_MAX_CONCURRENT="1") as service:
        service.module("Slow", sleep=60)
        service.module("Thing")
        slow = await service.deploy(manifest("Slow", "slow"))
        async with aclosing(service.watch(slow)) as changes:
            async for change in changes:
                if change["phase"] == "RUNNING":
                    break
        queued = await service.deploy(manifest(name="waits"))
    async with running_service(tmp_path) as service:
        ended, later = await service.outcome(slow), await service.outcome(queued)

    assert (ended["status"], ended["failure"]["kind"]) == ("FAILED", "SERVICE_STOPPED")
    assert ended["failure"]["retryable"] is True
    assert later["status"] == "SUCCESS"
