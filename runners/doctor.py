"""Whether Pulumi could deploy here as things are set up. Nothing is changed, and only `pulumi version` is started."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

from graphql_api.domain.diagnosis import Check
from graphql_api.domain.errors import ModuleInvalid
from runners.pulumi import PulumiSettings
from runners.toolchain import PulumiCli, ToolchainError, find
from runners.workspace import PROJECT_FILE, SHIPPED_MODULES, Module

_HOST_PREFIX = "pulumi-language-"
#: Pulumi's backends that are no directory; Pulumi Cloud is asked for over https.
_REMOTE_SCHEMES = frozenset({"s3", "gs", "azblob", "postgres", "postgresql", "mem"})


@dataclass(frozen=True, slots=True)
class Installation:
    """What is to be checked: where a CLI is looked for, how Pulumi is set up, and where the modules are."""

    search_path: str
    cache: Path
    data: Path
    pulumi: PulumiSettings
    modules: Path | None
    single_module: Path | None


async def examine(installation: Installation) -> AsyncGenerator[Check, None]:
    """One check after the other; the first is the CLI itself, with its path when there is one."""
    try:
        cli = await find(installation.search_path, installation.cache)
    except ToolchainError as error:
        cli = None
        yield Check("pulumi", False, error.message)
    else:
        yield _cli(cli)
    hosts = await asyncio.to_thread(_language_hosts, cli, installation.search_path)
    yield _hosts(cli, hosts)
    for check in (_backend, _data_directory, _passphrase):
        yield await asyncio.to_thread(check, installation)
    for found in await asyncio.to_thread(lambda: list(_modules(installation, hosts))):
        yield found


def _cli(cli: PulumiCli | None) -> Check:
    if cli is None:
        return Check(
            "pulumi",
            False,
            "There is no Pulumi CLI: install one and put it on PATH, or run `stackcast demo`, which builds it.",
        )
    return Check("pulumi", True, f"Pulumi {cli.version or 'of unknown version'} is at {cli.path}.", str(cli.path))


def _language_hosts(cli: PulumiCli | None, search_path: str) -> dict[str, Path]:
    """Where Pulumi looks for them: beside itself, with links followed, and on PATH. By language."""
    beside = [cli.path.parent, cli.path.resolve().parent] if cli else []
    found: dict[str, Path] = {}
    for folder in (*beside, *(Path(part) for part in search_path.split(os.pathsep) if part)):
        for file in _listed(folder):
            language = file.name.removeprefix(_HOST_PREFIX)
            if language != file.name and not language.endswith("-exec") and _is_executable(file):
                found.setdefault(language, file)
    return found


def _hosts(cli: PulumiCli | None, hosts: Mapping[str, Path]) -> Check:
    if hosts:
        return Check("languages", True, f"Pulumi can run programs in: {', '.join(sorted(hosts))}.")
    place = f"beside {cli.path} or on PATH" if cli else "on PATH"
    return Check(
        "languages",
        False,
        f"No language host ({_HOST_PREFIX}…) is {place}: install the complete Pulumi, which brings them.",
    )


def _backend(installation: Installation) -> Check:
    url = installation.pulumi.backend_url
    scheme = urlsplit(url).scheme
    if scheme == "file":
        path = Path(unquote(url.removeprefix("file://"))).expanduser()
        return _directory("backend", "Pulumi's backend", path, "PULUMI_BACKEND_URL or PULUMI_STATE_DIR")
    if scheme in ("http", "https"):
        return _cloud(installation.pulumi)
    if scheme not in _REMOTE_SCHEMES:
        return Check(
            "backend",
            False,
            "PULUMI_BACKEND_URL names no backend that Pulumi knows: write file:///PATH, s3://BUCKET, gs://BUCKET, "
            "azblob://CONTAINER or https://HOST.",
        )
    return Check("backend", True, f"Pulumi's backend is of the kind {scheme}://; the doctor does not ask it.")


def _cloud(pulumi: PulumiSettings) -> Check:
    if pulumi.service_environment.get("PULUMI_ACCESS_TOKEN") or (pulumi.home / "credentials.json").is_file():
        return Check("backend", True, "Pulumi's backend is a Pulumi Cloud, and there are credentials for it.")
    return Check(
        "backend", False, "Pulumi's backend is a Pulumi Cloud, and no credentials are there: set PULUMI_ACCESS_TOKEN."
    )


def _data_directory(installation: Installation) -> Check:
    path = installation.data
    if path.is_dir() and path.stat().st_mode & 0o077:
        return Check("data", False, f"The data directory {path} is open to other users: run `chmod 700 {path}`.")
    return _directory("data", "The data directory", path, "STACKCAST_DATA_DIR")


def _passphrase(installation: Installation) -> Check:
    pulumi = installation.pulumi
    if pulumi.passphrase is not None:
        return Check("passphrase", True, "The passphrase is set in PULUMI_CONFIG_PASSPHRASE.")
    file = pulumi.passphrase_file
    assert file is not None  # noqa: S101 (the one or the other is set)
    own = file == installation.data / "passphrase"
    if own and not file.exists():
        return Check("passphrase", True, f"The passphrase will be made in {file} at the first start.")
    way_out = "put a backup in its place" if own else "correct PULUMI_CONFIG_PASSPHRASE_FILE"
    try:
        empty = not file.read_bytes().strip()
    except OSError as error:
        return Check("passphrase", False, f"The passphrase's file {file} can't be read ({error.strerror}): {way_out}.")
    if empty:
        return Check("passphrase", False, f"The passphrase's file {file} is empty: {way_out}.")
    return Check("passphrase", True, f"The passphrase is in {file}.", str(file))


def _modules(installation: Installation, hosts: Mapping[str, Path]) -> Iterator[Check]:
    root, single = installation.modules, installation.single_module
    if root is None and single is not None:
        yield _module(Module(single), "every kind", hosts)
        return
    setting = "STACKCAST_MODULES" if root else "the modules that come with stackcast"
    root = root or SHIPPED_MODULES
    try:
        folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and (entry / PROJECT_FILE).is_file())
    except OSError as error:
        yield Check(
            "modules", False, f"The modules' directory {root} can't be read ({error.strerror}): correct {setting}."
        )
        return
    if not folders:
        yield Check(
            "modules",
            False,
            f"In {root} ({setting}) is no module: add a folder named after a kind in lower case, with {PROJECT_FILE}.",
        )
    for folder in folders:
        yield _named_module(folder, hosts)


def _named_module(folder: Path, hosts: Mapping[str, Path]) -> Check:
    if folder.name != folder.name.lower():
        return Check(
            "modules", False, f"No kind finds the module {folder}: rename the folder to {folder.name.lower()}."
        )
    return _module(Module(folder), f"the kind {folder.name}", hosts)


def _module(module: Module, serves: str, hosts: Mapping[str, Path]) -> Check:
    if not (module.path / PROJECT_FILE).is_file():
        return Check("modules", False, f"{module.path} has no {PROJECT_FILE}: correct PULUMI_MODULE_DIR.")
    try:
        module.check()
        language = _language(module.path / PROJECT_FILE)
    except ModuleInvalid as refusal:
        return Check("modules", False, refusal.message)
    except (OSError, ValueError, yaml.YAMLError):
        language = ""
    if language and language not in hosts:
        return Check(
            "modules",
            False,
            f"The module {module.path} is written for {language}, and no {_HOST_PREFIX}{language} is beside Pulumi or "
            "on PATH: install it.",
        )
    return Check("modules", True, f"The module {module.path} serves {serves}.", str(module.path))


def _language(project: Path) -> str:
    runtime = yaml.safe_load(project.read_text()).get("runtime")
    name = runtime.get("name") if isinstance(runtime, dict) else runtime
    return name if isinstance(name, str) else ""


def _directory(subject: str, title: str, path: Path, setting: str) -> Check:
    """It is there and can be written, or it can be made."""
    there = path.exists()
    nearest = next((place for place in (path, *path.parents) if place.exists()), path)
    if not nearest.is_dir():
        return Check(
            subject, False, f"{title} {path} can't be used, {nearest} is no directory: move it, or correct {setting}."
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        action = "written" if there else "made"
        message = f"{title} {path} can't be {action}: let this user write in {nearest}, or correct {setting}."
        return Check(subject, False, message)
    state = "can be written" if there else "will be made when it is needed"
    return Check(subject, True, f"{title} {path} {state}.", str(path) if there else None)


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_executable(file: Path) -> bool:
    return file.is_file() and os.access(file, os.X_OK)
