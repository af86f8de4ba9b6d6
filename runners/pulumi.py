"""What to run: Pulumi's arguments and environment. Facts: Pulumi CLI 3.206.0 to 3.259.0."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, unquote_plus

from graphql_api.domain.records import StackFqdn, StackUpdateId

#: What Pulumi and its plugins may see of the service's environment: the basics, proxies, and the variables that
#: cloud providers read their credentials from. ``*`` matches any end.
PASSED_VARIABLES = (
    *("PATH", "HOME", "USER", "LANG", "LC_*", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    *("AWS_*", "ARM_*", "AZURE_*", "GOOGLE_*", "GCP_*", "GCLOUD_*", "CLOUDSDK_*", "KUBECONFIG", "KUBE_*"),
    *("CLOUDFLARE_*", "DIGITALOCEAN_*", "HCLOUD_*", "CIVO_*", "OCI_*", "OS_*", "AUTH0_*", "GITHUB_TOKEN"),
    *("MONGODB_ATLAS_*", "CONFLUENT_*", "SNOWFLAKE_*", "DATADOG_*", "DD_*", "PULUMI_ACCESS_TOKEN"),
)
#: The largest value of one variable that Linux hands to a process, less ``STACK_INPUT_YAML=``: 131,072 bytes with
#: the name, the ``=`` and a closing NUL.
STACK_INPUT_LIMIT = 131_054
#: Once the event log ends with one of these the engine is finishing; a signal now would leave Pulumi's lock behind.
QUIET_MARKERS = ('"summaryEvent"', '"cancelEvent"')

#: Not even `*` passes these: the service's own settings, its token among them, and an input that is not the run's.
_NEVER_PASSED = ("STACKCAST_", "STACK_INPUT_")

_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSWORD|PASSPHRASE|CREDENTIAL|KEY|PRIVATE", re.IGNORECASE)
#: What stands before the host in an URL, with or without a scheme: a user and a password, or a token alone.
_USER_INFO = re.compile(r"(?:^|//)(?:[^/:@\s]*:)?([^/:@\s][^/@\s]*)@")
_SECRET_PARAMETER = re.compile(rf"{_SECRET_NAME.pattern}|PASS|PWD|AUTH|SIG", re.IGNORECASE)
#: Shorter values stand in ordinary words too often to be hidden wherever they occur.
_SHORTEST_SECRET = 8


@dataclass(frozen=True, slots=True)
class PulumiSettings:
    """How Pulumi is set up: its backend, its home, and the passphrase either itself or as a file."""

    backend_url: str
    home: Path
    passphrase: str | None = field(repr=False)
    passphrase_file: Path | None
    service_environment: Mapping[str, str] = field(repr=False)
    pass_env: tuple[str, ...] = ()

    def environment(self, stack_input: str, stack_input_file: Path) -> dict[str, str]:
        """The whole environment of a run. An input too long for a variable is in the file, which must then exist."""
        return self._passed() | self._pulumi_variables() | _stack_input_variables(stack_input, stack_input_file)

    def secrets(self) -> frozenset[str]:
        """Values that must not be stored, wherever Pulumi or a program printed them, also within JSON. Blocking."""
        ordinary = _allowed(self.service_environment, PASSED_VARIABLES)
        passed = self._passed()
        values = {value for name, value in passed.items() if _SECRET_NAME.search(name) or name not in ordinary}
        for value in (*passed.values(), self.backend_url):
            values |= _secrets_in_url(value)
        values |= {self.passphrase} if self.passphrase else set()
        if self.passphrase_file is not None and self.passphrase_file.is_file():
            values.add(self.passphrase_file.read_text().strip())
        # Output is looked at line by line, so that each line of a secret has to be known by itself.
        values |= {line.strip() for value in values for line in value.splitlines()}
        secrets = {value for value in values if len(value) >= _SHORTEST_SECRET}
        return frozenset(secrets.union(*map(_within_json, secrets)))

    def _passed(self) -> dict[str, str]:
        return _allowed(self.service_environment, (*PASSED_VARIABLES, *self.pass_env))

    def _pulumi_variables(self) -> dict[str, str]:
        variables = {
            "PULUMI_BACKEND_URL": self.backend_url,
            "PULUMI_HOME": str(self.home),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DEBUG_COMMANDS": "true",  # or --event-log is an unknown flag
            "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",  # the settings file is a throw-away copy
        }
        if self.passphrase is not None:
            variables["PULUMI_CONFIG_PASSPHRASE"] = self.passphrase
        elif self.passphrase_file is not None:
            variables["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(self.passphrase_file)
        return variables


def up(cli: Path, stack: StackFqdn, events: Path, update_id: StackUpdateId) -> tuple[str, ...]:
    """Deploy. The message connects Pulumi's own history with the stack update."""
    options = ("--yes", "--skip-preview", "--suppress-progress", "--event-log", str(events), "--message", update_id)
    return (str(cli), "up", "--stack", stack, *options, *_QUIET)


def stack_init(cli: Path, stack: StackFqdn) -> tuple[str, ...]:
    """Create the stack; without --no-select it would also be selected for everyone who shares PULUMI_HOME."""
    return (str(cli), "stack", "init", "--stack", stack, "--no-select", *_QUIET)


def cancel(cli: Path, stack: StackFqdn) -> tuple[str, ...]:
    """Remove the stack's locks. It stops nothing, so it is only for locks whose owner is proven dead."""
    return (str(cli), "cancel", "--stack", stack, "--yes", *_QUIET)


_QUIET = ("--non-interactive", "--color", "never")


def _stack_input_variables(stack_input: str, file: Path) -> dict[str, str]:
    if len(stack_input.encode()) <= STACK_INPUT_LIMIT:
        return {"STACK_INPUT_YAML": stack_input}
    # Modules of different years read the one or the other; the content variable must be absent, it would win.
    return {"STACK_INPUT_YAML_FILE": str(file), "STACK_INPUT_FILE_PATH": str(file)}


def _within_json(value: str) -> set[str]:
    return {json.dumps(value, ensure_ascii=all_escaped)[1:-1] for all_escaped in (True, False)}


def _secrets_in_url(value: str) -> set[str]:
    """The passwords and tokens in an URL, as they stand there and decoded; nothing in a value that is none."""
    found = set(_USER_INFO.findall(value))
    for parameter in value.partition("?")[2].partition("#")[0].split("&"):
        name, _, content = parameter.partition("=")
        if _SECRET_PARAMETER.search(name):
            found.add(content)
    return found | {unquote(secret) for secret in found} | {unquote_plus(secret) for secret in found}


def _allowed(environment: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    exact = {pattern for pattern in patterns if not pattern.endswith("*")}
    prefixes = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))
    return {
        name: value
        for name, value in environment.items()
        if (name in exact or name.startswith(prefixes)) and not name.startswith(_NEVER_PASSED)
    }
