"""The image and the compose file, as far as that goes without a container engine.

Their commands are run here as processes: the image's own command and health check with its environment, the step that
makes the secrets, and the one that downloads Pulumi, each with its paths in a temporary directory. What only an engine
can tell, that the image builds and the containers work together, is not tested here.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import stat
import sys
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from graphql_api.domain.errors import StartRefused
from graphql_api.server import CLOSE_PATIENCE
from graphql_api.settings import Settings
from tests import fake_pulumi
from tests.service import PATIENCE, manifest, running_service

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
#: How often the health check of a service that has just started is asked, ten times a second, until it must be well.
TRIES = 200


class Instruction(NamedTuple):
    """An instruction of the Dockerfile: its word in capitals, and the rest with continued lines joined."""

    word: str
    rest: str


def instructions(text: str) -> list[Instruction]:
    """Every instruction in order. Comments go first, as the builder drops them even between continued lines."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    parts = (line.partition(" ") for line in joined.splitlines())
    return [Instruction(word.upper(), rest.strip()) for word, _, rest in parts]


IMAGE = instructions((ROOT / "Dockerfile").read_text())
FINAL = IMAGE[max(i for i, each in enumerate(IMAGE) if each.word == "FROM") :]
ARGUMENTS = dict(each.rest.split("=", 1) for each in IMAGE if each.word == "ARG" and "=" in each.rest)


def exec_form(word: str) -> list[str]:
    """The array of an instruction of the image itself."""
    (rest,) = (each.rest for each in FINAL if each.word == word)
    array: list[str] = json.loads(rest[rest.index("[") :])
    return array


def image_environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for each in FINAL if each.word == "ENV" for pair in each.rest.split())


# --- the Dockerfile as a text


def test_every_image_is_pinned() -> None:
    """Both files build and run the same tomorrow: each image has a version to the last digit."""
    stages = {each.rest.split(" AS ")[1] for each in IMAGE if each.word == "FROM" and " AS " in each.rest}
    bases = {each.rest.split(" AS ")[0] for each in IMAGE if each.word == "FROM"}
    named = {re.sub(r"\$\{(\w+)}", lambda name: ARGUMENTS[name[1]], base) for base in bases} - stages
    run = {service["image"] for service in SERVICES.values() if "build" not in service}

    assert all(re.fullmatch(r"[a-z]+:\d+\.\d+\.\d+[a-z0-9-]*", image) for image in named | run), named | run


def test_the_python_is_the_one_that_the_project_wants() -> None:
    """The image's Python is of the release that the linters and types are checked for."""
    assert ARGUMENTS["PYTHON_IMAGE"].startswith("python:3.11.")


def test_it_runs_as_an_unprivileged_user() -> None:
    """The last user is not root, is given by number, and nothing is built after it."""
    words = [each.word for each in FINAL]
    user = next(i for i, word in enumerate(words) if word == "USER")

    assert words.count("USER") == 1
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", FINAL[user].rest)
    assert {"RUN", "COPY", "ADD"}.isdisjoint(words[user:])


def test_volumes_belong_to_that_user() -> None:
    """Each volume's directory is made with mode 0700 and its owner; a named volume takes both over."""
    (making,) = (each.rest for each in FINAL if each.word == "RUN" and "install --directory" in each.rest)
    (user,) = (each.rest for each in FINAL if each.word == "USER")

    assert f"--uid {user.split(':')[0]} " in making
    assert "--mode=0700 --owner=stackcast" in making
    assert set(exec_form("VOLUME")) <= set(making.split())
    assert set(exec_form("VOLUME")) == {
        image_environment()[name] for name in ("STACKCAST_DATA_DIR", "PULUMI_STATE_DIR", "PULUMI_HOME")
    }


def test_no_secret_is_in_the_image() -> None:
    """What is built in can be read by whoever has the image, so no variable of it may be a secret."""
    names = {*image_environment(), *(each.rest.split("=")[0] for each in IMAGE if each.word == "ARG")}

    assert [name for name in names if re.search("TOKEN|PASSWORD|PASSPHRASE|SECRET|CREDENTIAL|URL", name)] == []


def test_commands_are_arrays() -> None:
    """No shell stands between the engine and what it starts: a signal reaches tini, and tini the service."""
    assert exec_form("ENTRYPOINT")[:2] == ["tini", "--"]
    assert exec_form("CMD") == ["serve"]
    assert exec_form("HEALTHCHECK")[0] == "python"


def test_what_is_copied_is_there_and_is_sent_to_the_builder() -> None:
    """Each source exists and .dockerignore lets it through, and nothing else."""
    copied = [each.rest.split() for each in IMAGE if each.word in ("COPY", "ADD")]
    sources = {name for words in copied if not words[0].startswith("--") for name in words[:-1]}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    assert {name for name in sources if not (ROOT / name).exists()} == set()
    assert sources == {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored


def test_the_image_sets_only_what_is_a_setting() -> None:
    """A variable that is misspelt here would silently do nothing."""
    known = {field.alias for field in Settings.model_fields.values()} | {"PATH", "PYTHONUNBUFFERED"}

    assert set(image_environment()) <= known
    assert set(SERVICES["stackcast"]["environment"]) <= known


# --- the download of Pulumi, for real but for the network


def archive() -> bytes:
    """An archive of the form of Pulumi's own."""
    content, stream = b"#!/bin/sh\n", io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name in ("pulumi/pulumi", "pulumi/pulumi-language-yaml"):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


async def download(directory: Path, machine: str, checksum: str) -> tuple[int, str, list[str]]:
    """Run the build's step with a `curl` that copies an archive; its status, its words and what curl was asked."""
    (script,) = (each.rest for each in IMAGE if each.word == "RUN" and "sha256sum" in each.rest)
    (directory / "bin").mkdir()
    (directory / "image").mkdir()
    (directory / "archive").write_bytes(archive())
    curl = directory / "bin" / "curl"
    curl.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {directory}/asked\n'
        f'while [ "$1" != --output ]; do shift; done\ncp {directory}/archive "$2"\n'
    )
    curl.chmod(0o755)
    variables = {**ARGUMENTS, "TARGETARCH": machine, f"PULUMI_SHA256_{machine.upper()}": checksum}
    path = f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
    status, words = await output(["/bin/sh", "-c", script], {**variables, "PATH": path}, directory / "image")
    asked = directory / "asked"
    return status, words, asked.read_text().splitlines() if asked.exists() else []


@pytest.mark.parametrize(("machine", "word"), [("amd64", "x64"), ("arm64", "arm64")])
async def test_the_archive_is_checked_and_unpacked(tmp_path: Path, machine: str, word: str) -> None:
    """The archive for the machine is asked for by its version, and what is left is Pulumi and its language hosts."""
    status, words, asked = await download(tmp_path, machine, hashlib.sha256(archive()).hexdigest())

    assert status == 0, words
    assert asked[-1].endswith(f"/pulumi-v{ARGUMENTS['PULUMI_VERSION']}-linux-{word}.tar.gz")
    assert sorted(file.name for file in (tmp_path / "image").iterdir()) == ["pulumi", "pulumi-language-yaml"]
    assert os.access(tmp_path / "image" / "pulumi", os.X_OK)


async def test_another_archive_ends_the_build(tmp_path: Path) -> None:
    """With the checksum that is written in the Dockerfile, these other bytes are refused before they are unpacked."""
    status, words, _ = await download(tmp_path, "amd64", ARGUMENTS["PULUMI_SHA256_AMD64"])

    assert status != 0
    assert "FAILED" in words
    assert not (tmp_path / "image" / "pulumi").exists()


async def test_an_unknown_machine_ends_the_build_with_a_sentence(tmp_path: Path) -> None:
    """Where Pulumi publishes no archive, nothing is downloaded."""
    status, words, asked = await download(tmp_path, "riscv64", "")

    assert (status, asked) == (1, [])
    assert words.endswith("Build with --platform linux/amd64 or linux/arm64.\n")


def test_both_checksums_and_the_version_are_the_same_release() -> None:
    """The version is the one that the fake Pulumi claims to be, and both checksums are complete and differ."""
    checksums = {ARGUMENTS["PULUMI_SHA256_AMD64"], ARGUMENTS["PULUMI_SHA256_ARM64"]}

    assert f"v{ARGUMENTS['PULUMI_VERSION']}" == fake_pulumi.VERSION
    assert len(checksums) == 2
    assert all(re.fullmatch(r"[0-9a-f]{64}", checksum) for checksum in checksums)


# --- the image's command and health check, as processes


@pytest.fixture
def unused_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@dataclass(frozen=True)
class Container:
    """The image's command as a process, in its environment with the image's directories below a temporary one."""

    process: asyncio.subprocess.Process
    environment: Mapping[str, str]
    root: Path

    async def health(self) -> int:
        """Run the health check as the engine does; 0 is healthy."""
        return (await output(exec_form("HEALTHCHECK"), self.environment, self.root))[0]

    async def until_health_is(self, wanted: int) -> None:
        for _ in range(TRIES):
            assert self.process.returncode is None
            if await self.health() == wanted:
                return
            await asyncio.sleep(0.1)
        pytest.fail(f"The health check did not become {wanted}.")


@asynccontextmanager
async def container(root: Path, port: int) -> AsyncIterator[Container]:
    """Start ENTRYPOINT and CMD, with `tini` where there is one, as compose would after its secrets were made."""
    make_programs(root)
    assert (await make_secrets(root))[0] == 0
    environment = mapped(root) | {"STACKCAST_PORT": str(port)}
    (root / "secrets-of-service" / "database-url").unlink()  # its host is a container's name
    for name in ("STACKCAST_DATABASE_URL_FILE", "STACKCAST_HOST"):
        del environment[name]
    init, *argv = [*exec_form("ENTRYPOINT"), *exec_form("CMD")]
    argv = [found, *argv] if (found := shutil.which(init)) else argv[1:]
    process = await asyncio.create_subprocess_exec(*argv, env=environment, cwd=root, stdout=asyncio.subprocess.DEVNULL)
    try:
        yield Container(process, environment, root)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0


def make_programs(root: Path) -> None:
    """What the image has on its PATH: `stackcast` and `python`, and Pulumi."""
    fake_pulumi.install(root / "bin")
    (root / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (root / "bin" / "stackcast").write_text(f'#!/bin/sh\nexec {sys.executable} -W error -m graphql_api "$@"\n')
    for name in ("python", "stackcast"):
        (root / "bin" / name).chmod(0o755)


def mapped(root: Path) -> dict[str, str]:
    """The variables that the container would have, each directory of the image below ``root``."""
    variables: dict[str, str] = image_environment() | SERVICES["stackcast"]["environment"]
    places = {"/var/lib/stackcast": f"{root}/lib", "/run/stackcast": f"{root}/secrets-of-service"}
    for place, there in places.items():
        variables = {name: value.replace(place, there) for name, value in variables.items()}
    coverage = {name: os.environ[name] for name in ("COVERAGE_PROCESS_CONFIG",) if name in os.environ}
    path = f"{root / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"
    return variables | coverage | {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(root)}


async def test_the_health_check_tells_the_store_and_the_cli(tmp_path: Path, unused_port: int) -> None:
    """Healthy while all is there, unhealthy while Pulumi is not, and healthy again without a restart."""
    async with container(tmp_path, unused_port) as running:
        await running.until_health_is(0)
        assert stat.S_IMODE((tmp_path / "lib" / "state").stat().st_mode) == 0o700

        (tmp_path / "bin" / "pulumi").rename(tmp_path / "pulumi")
        assert await running.health() == 1

        (tmp_path / "pulumi").rename(tmp_path / "bin" / "pulumi")
        assert await running.health() == 0


@pytest.mark.parametrize("variable", ["PULUMI_STATE_DIR", "PULUMI_BACKEND_URL"])
async def test_the_state_directory_is_the_backend_unless_there_is_a_url(tmp_path: Path, variable: str) -> None:
    """State is below PULUMI_STATE_DIR, made with mode 0700; where a backend has a URL, it is where that says."""
    fake_pulumi.install(tmp_path / "bin")
    other = tmp_path / "other"
    variables = {"PULUMI_STATE_DIR": str(tmp_path / "not" / "yet"), "PULUMI_BACKEND_URL": other.as_uri()}
    used = dict(list(variables.items())[: list(variables).index(variable) + 1])
    async with running_service(tmp_path, **used) as service:
        service.module("Thing")
        outcome = await service.outcome(await service.deploy(manifest()))

    assert outcome["status"] == "SUCCESS"
    place = tmp_path / "not" / "yet" if variable == "PULUMI_STATE_DIR" else other
    assert (place / ".pulumi" / "stacks" / "tests" / "one.json").exists()
    assert (tmp_path / "not").exists() == (variable == "PULUMI_STATE_DIR")
    if variable == "PULUMI_STATE_DIR":
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


async def test_a_state_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """The start says which directory it is and why."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StartRefused) as caught:
        async with running_service(tmp_path, PULUMI_STATE_DIR=str(tmp_path / "file" / "state")):
            pass

    assert str(tmp_path / "file" / "state") in caught.value.message
    assert "set PULUMI_STATE_DIR to another one." in caught.value.message


async def test_the_health_check_asks_no_proxy(tmp_path: Path, unused_port: int) -> None:
    """A proxy that Pulumi needs is not asked for the container's own address."""
    async with container(tmp_path, unused_port) as running:
        await running.until_health_is(0)
        proxied = {**running.environment, "http_proxy": "http://127.0.0.1:9/"}

        assert (await output(exec_form("HEALTHCHECK"), proxied, tmp_path))[0] == 0


async def test_without_a_service_it_is_unhealthy(tmp_path: Path, unused_port: int) -> None:
    """Where nothing listens the check fails at once."""
    make_programs(tmp_path)

    status, _ = await output(
        exec_form("HEALTHCHECK"), mapped(tmp_path) | {"STACKCAST_PORT": str(unused_port)}, tmp_path
    )

    assert status == 1


async def test_without_a_token_the_image_does_not_start(tmp_path: Path) -> None:
    """Run without compose and without a token, it says what is missing."""
    make_programs(tmp_path)
    environment = {name: value for name, value in mapped(tmp_path).items() if not name.endswith("_FILE")}

    status, words = await output(["stackcast", *exec_form("CMD")], environment, tmp_path)

    assert status == 2
    assert words.startswith("STACKCAST_HOST is 0.0.0.0, which others can reach: set STACKCAST_TOKEN")


# --- the secrets


def secret_files(root: Path) -> dict[str, str]:
    return {
        str(file.relative_to(root)): file.read_text()
        for place in ("secrets-of-service", "secrets-of-mongodb")
        for file in sorted((root / place).iterdir())
    }


async def make_secrets(root: Path, shell: str = "/bin/sh") -> tuple[int, str]:
    """Run the step of the compose file, for this user in place of the containers' two."""
    places = {"SERVICE_SECRETS": root / "secrets-of-service", "MONGODB_SECRETS": root / "secrets-of-mongodb"}
    for place in places.values():
        place.mkdir(exist_ok=True)
    owner = f"{os.getuid()}:{os.getgid()}"
    variables = {**{name: str(place) for name, place in places.items()}, "SERVICE_USER": owner, "MONGODB_USER": owner}
    step = SERVICES["secrets"]
    assert set(step["environment"]) == set(variables)
    argv = [word.replace("$$", "$") for word in [*step["entrypoint"], *step["command"]]]
    return await output([shell, *argv[1:]], {**variables, "PATH": os.environ["PATH"]}, root)


async def test_secrets_are_made_once(tmp_path: Path) -> None:
    """The first start makes them, and each later one keeps them: clients and the database go on knowing them."""
    assert await make_secrets(tmp_path) == (0, "")
    first = secret_files(tmp_path)
    assert await make_secrets(tmp_path) == (0, "")

    assert secret_files(tmp_path) == first
    assert set(first) == {"secrets-of-service/token", "secrets-of-service/database-url", "secrets-of-mongodb/password"}
    assert re.fullmatch(r"[0-9a-f]{64}\n", first["secrets-of-service/token"])
    password = first["secrets-of-mongodb/password"].strip()
    assert re.fullmatch(r"[0-9a-f]{64}", password)
    assert password != first["secrets-of-service/token"].strip()
    assert f"stackcast:{password}@mongodb/stackcast" in first["secrets-of-service/database-url"]


async def test_only_the_owner_may_read_a_secret(tmp_path: Path) -> None:
    """Each file has mode 0400."""
    await make_secrets(tmp_path)

    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in secret_files(tmp_path)}
    assert modes == {0o400}


async def test_secrets_are_completed_after_a_crash(tmp_path: Path) -> None:
    """What a step that was killed left, half a file among it, is completed; what it had made is kept."""
    await make_secrets(tmp_path)
    before = secret_files(tmp_path)
    (tmp_path / "secrets-of-service" / "database-url").unlink()
    (tmp_path / "secrets-of-service" / "database-url.new").write_text("mongodb://sta")

    assert await make_secrets(tmp_path) == (0, "")

    assert secret_files(tmp_path) == before


async def test_each_container_is_given_its_own_secrets(tmp_path: Path) -> None:
    """The service reads them from where the step wrote them; MongoDB never sees the token."""
    step = SERVICES["secrets"]
    volumes = dict(volume.split(":")[:2] for volume in step["volumes"])
    (user,) = (each.rest for each in FINAL if each.word == "USER")

    assert step["environment"]["SERVICE_USER"] == user
    assert f"{volumes['service-secrets']}:ro" in {v.split(":", 1)[1] for v in SERVICES["stackcast"]["volumes"]}
    assert not [v for v in SERVICES["stackcast"]["volumes"] if v.startswith("mongodb-secrets")]
    assert f"mongodb-secrets:{volumes['mongodb-secrets']}:ro" in SERVICES["mongodb"]["volumes"]
    assert not [v for v in SERVICES["mongodb"]["volumes"] if v.startswith("service-secrets")]
    await make_secrets(tmp_path)
    made = {Path(name).name for name in secret_files(tmp_path)}
    named = [
        SERVICES["stackcast"]["environment"]["STACKCAST_TOKEN_FILE"],
        SERVICES["stackcast"]["environment"]["STACKCAST_DATABASE_URL_FILE"],
        SERVICES["mongodb"]["environment"]["MONGO_INITDB_ROOT_PASSWORD_FILE"],
    ]
    assert {Path(file).name for file in named} == made
    assert {str(Path(file).parent) for file in named} == {*volumes.values()}


async def test_the_service_takes_the_secrets(tmp_path: Path) -> None:
    """The settings that compose gives, with the files that its step makes, are ones to start with."""
    await make_secrets(tmp_path)

    settings = Settings.from_environment(mapped(tmp_path))

    assert settings.token is not None
    assert settings.token.get_secret_value() == secret_files(tmp_path)["secrets-of-service/token"].strip()
    user = SERVICES["mongodb"]["environment"]["MONGO_INITDB_ROOT_USERNAME"]
    assert settings.store_url.startswith(f"mongodb://{user}:")
    assert settings.store_url.endswith("@mongodb/stackcast?authSource=admin")
    assert settings.state_path == tmp_path / "lib" / "state"


# --- the compose file as a text


def test_only_loopback_is_published() -> None:
    """Nobody but this machine reaches the service, and nobody but the service reaches MongoDB."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published.keys() == {"stackcast", "mongodb-for-tests"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert SERVICES["mongodb-for-tests"]["profiles"] == ["tests"]


def test_no_secret_is_in_the_file() -> None:
    """Secrets are in files that are made on the first start; the compose file has only their names."""
    given = [str(v) for service in SERVICES.values() for v in service.get("environment", {}).values()]

    assert not [value for value in given if re.search(r"[0-9a-f]{16}|://[^/]*:[^/]*@", value)]
    secret_names = {
        name
        for service in SERVICES.values()
        for name in service.get("environment", {})
        if re.search("TOKEN|PASSWORD|PASSPHRASE|DATABASE_URL", name)
    }
    assert all(name.endswith("_FILE") for name in secret_names)


def test_everything_that_lasts_is_on_a_volume() -> None:
    """A container that is made anew finds its data, its state and Pulumi's home, and its host has the same name."""
    mounted = {place.split(":")[1]: place.split(":")[0] for place in SERVICES["stackcast"]["volumes"]}

    assert set(exec_form("VOLUME")) <= set(mounted)
    named = {v.split(":")[0] for service in SERVICES.values() for v in service.get("volumes", [])}
    assert named == set(COMPOSE["volumes"])
    assert SERVICES["stackcast"]["hostname"] == "stackcast"


def test_stopping_is_given_the_time_it_takes() -> None:
    """SIGKILL comes only after open requests, the shutdown's grace and the database's end have had their time."""
    service = SERVICES["stackcast"]
    grace = Settings.from_environment(
        {"STACKCAST_SHUTDOWN_GRACE": service["environment"]["STACKCAST_SHUTDOWN_GRACE"]}
    ).shutdown_grace
    (seconds,) = re.fullmatch(r"(\d+)s", service["stop_grace_period"]).groups()  # type: ignore[union-attr]

    assert timedelta(seconds=int(seconds)) >= grace + 2 * timedelta(seconds=CLOSE_PATIENCE)


def test_what_a_service_needs_starts_first() -> None:
    """Dependencies are services of the file, and those that are waited for to be healthy have a check."""
    for service in SERVICES.values():
        for name, how in service.get("depends_on", {}).items():
            assert how["condition"] in ("service_healthy", "service_completed_successfully")
            assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[name]
    assert set(SERVICES["stackcast"]["depends_on"]) == {"secrets", "mongodb"}


#: For each key that the compose specification has and this file uses: its type there. Its JSON schema is no dependency.
SPECIFIED: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("build", "image", "hostname", "user", "network_mode", "restart", "stop_grace_period"), str),
    **dict.fromkeys(("cap_drop", "cap_add", "security_opt", "ports", "volumes", "configs", "profiles", "tmpfs"), list),
    **dict.fromkeys(("entrypoint", "command"), list),
    **dict.fromkeys(("environment", "depends_on", "healthcheck"), dict),
    "read_only": bool,
}


def test_the_file_is_of_the_specified_form() -> None:
    """Every key is one of the specification, with a value of its type; numbers of the environment are quoted."""
    assert set(COMPOSE) == {"services", "configs", "volumes"}
    for service in SERVICES.values():
        assert set(service) <= set(SPECIFIED)
        assert all(isinstance(value, SPECIFIED[key]) for key, value in service.items())
        assert all(isinstance(value, str) for value in service.get("environment", {}).values())
        assert set(service.get("healthcheck", {})) <= {"test", "interval", "timeout", "retries", "start_period"}
    assert all(options is None for options in COMPOSE["volumes"].values())
    assert all(yaml.safe_load(config["content"]) for config in COMPOSE["configs"].values())
    used = {config["source"] for service in SERVICES.values() for config in service.get("configs", [])}
    assert used == set(COMPOSE["configs"])


async def output(argv: list[str], environment: Mapping[str, str], directory: Path) -> tuple[int, str]:
    """The status and all words of a process, looked for on its own PATH."""
    program = shutil.which(argv[0], path=environment["PATH"]) or argv[0]
    process = await asyncio.create_subprocess_exec(
        *(program, *argv[1:]),
        env=environment,
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(PATIENCE):
        words = (await process.communicate())[0].decode()
    assert process.returncode is not None
    return process.returncode, words
