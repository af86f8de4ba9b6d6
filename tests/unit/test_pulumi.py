"""What Pulumi is started with: arguments, environment, stack input; and which values are secret."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from graphql_api.domain.manifest import parse, stack_fqdn
from graphql_api.domain.records import StackUpdateId, new_id, utc_now
from runners import pulumi
from runners.pulumi import STACK_INPUT_LIMIT, PulumiSettings
from tests.builders import STACK

FILE = Path("/runs/x/stack-input.yaml")
PASSPHRASE = "open sesame"  # noqa: S105 (of no stack)
PULUMI_VARIABLES = {
    "PULUMI_BACKEND_URL": "file:///srv/state",
    "PULUMI_HOME": "/srv/pulumi",
    "PULUMI_SKIP_UPDATE_CHECK": "true",
    "PULUMI_DEBUG_COMMANDS": "true",
    "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",
    "PULUMI_CONFIG_PASSPHRASE_FILE": "/srv/passphrase",
}


def settings(service_environment: dict[str, str], *pass_env: str) -> PulumiSettings:
    return PulumiSettings(
        backend_url="file:///srv/state",
        home=Path("/srv/pulumi"),
        passphrase=None,
        passphrase_file=Path("/srv/passphrase"),
        service_environment=service_environment,
        pass_env=pass_env,
    )


def environment(service_environment: dict[str, str], *pass_env: str, stack_input: str = "x") -> dict[str, str]:
    return settings(service_environment, *pass_env).environment(stack_input, FILE)


# --- the environment


def test_the_environment_is_complete_and_has_nothing_else() -> None:
    """A service without any variable gives Pulumi its own settings and the stack input."""
    assert environment({}) == {**PULUMI_VARIABLES, "STACK_INPUT_YAML": "x"}


PASSED = (
    *("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "HTTP_PROXY", "https_proxy"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_PROFILE"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CREDENTIALS", "ARM_CLIENT_SECRET", "AZURE_TENANT_ID", "KUBECONFIG"),
    *("CLOUDFLARE_API_TOKEN", "DIGITALOCEAN_TOKEN", "CIVO_TOKEN", "AUTH0_DOMAIN", "PULUMI_ACCESS_TOKEN"),
)  # fmt: skip


@pytest.mark.parametrize("name", PASSED)
def test_what_tools_and_cloud_providers_need_is_passed(name: str) -> None:
    """The basics, proxies and the usual credentials reach Pulumi unchanged."""
    assert environment({name: "value"})[name] == "value"


WITHHELD = (
    *("STACKCAST_TOKEN", "STACKCAST_DATABASE_URL", "STACKCAST_DATA_DIR", "DATABASE_PASSWORD", "SECRET", "MY_SECRET"),
    *("PULUMI_STACK", "PULUMI_CONFIG", "PULUMI_PARALLEL", "PULUMI_OPTION_REFRESH", "PULUMI_ERROR_ON_DEPENDENCY_CYCLES"),
    *("STACK_INPUT_YAML_FILE", "STACK_INPUT_FILE_PATH", "PULUMI_MODULE_DIR", "PYTHONPATH", "LD_PRELOAD", "BASH_ENV"),
    *("XAWS_REGION", "aws_region", "PATHX", "HOMEBREW_PREFIX", "HTTP_PROXY_PASSWORD", "MONGODB_URL"),
)  # fmt: skip


@pytest.mark.parametrize("name", WITHHELD)
def test_everything_else_of_the_service_is_withheld(name: str) -> None:
    """What is not on the list does not reach Pulumi: secrets of the service, nor what would redirect Pulumi."""
    assert environment({name: "value"}) == environment({})


@pytest.mark.parametrize("name", [*PULUMI_VARIABLES, "STACK_INPUT_YAML"])
def test_pulumis_own_variables_are_ours(name: str) -> None:
    """What the service was started with does not come before what this run is set up with."""
    assert environment({name: "of the service"}) == environment({})
    assert environment({name: "of the service"}, name) == environment({})


def test_more_variables_can_be_passed_by_name() -> None:
    """An exact name passes that variable alone; ``NAME*`` passes all that begin so."""
    service = {"VAULT": "1", "VAULT_ADDR": "2", "ACME_ID": "3", "ACME": "4", "OTHER": "5"}

    passed = environment(service, "VAULT", "ACME_*", "MISSING", "NONE*")

    assert {name: passed[name] for name in service if name in passed} == {"VAULT": "1", "ACME_ID": "3"}


def test_a_name_that_is_passed_by_name_is_compared_as_a_whole() -> None:
    """A star is only special at the end, and nothing is a regular expression."""
    service = {"A.C": "1", "ABC": "2", "A*C": "3"}

    passed = environment(service, "A.C", "A*C")

    assert {name for name in service if name in passed} == {"A.C", "A*C"}


@pytest.mark.parametrize("name", ["STACK_INPUT_YAML", "STACKCAST_TOKEN"])
def test_passing_everything_passes_neither_an_input_nor_the_services_token(name: str) -> None:
    """With ``*`` a foreign input still can't win over the file, and the token that guards the API stays inside."""
    assert name not in environment({name: "of the service"}, "*", stack_input="x" * (STACK_INPUT_LIMIT + 1))


# --- the passphrase


def test_a_passphrase_is_handed_over_as_a_file_or_as_itself() -> None:
    """The one that is set is used, and never both."""
    as_file = environment({})
    as_text = replace(settings({}), passphrase=PASSPHRASE, passphrase_file=None).environment("x", FILE)
    both = replace(settings({}), passphrase=PASSPHRASE).environment("x", FILE)

    assert passphrase_variables(as_file) == {"PULUMI_CONFIG_PASSPHRASE_FILE": "/srv/passphrase"}
    assert passphrase_variables(as_text) == passphrase_variables(both) == {"PULUMI_CONFIG_PASSPHRASE": PASSPHRASE}


def test_without_a_passphrase_none_is_handed_over() -> None:
    """A backend that needs none, such as Pulumi Cloud, gets none."""
    without = replace(settings({}), passphrase_file=None).environment("x", FILE)

    assert passphrase_variables(without) == {}


def passphrase_variables(variables: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if "PASSPHRASE" in name}


# --- the stack input

INPUT_VARIABLES = {"STACK_INPUT_YAML", "STACK_INPUT_YAML_FILE", "STACK_INPUT_FILE_PATH"}


@pytest.mark.parametrize(
    "text",
    ["", "x", "x" * STACK_INPUT_LIMIT, "é" * (STACK_INPUT_LIMIT // 2), "😀" * (STACK_INPUT_LIMIT // 4)],
    ids=["empty", "short", "longest", "longest in two-byte letters", "longest in four-byte letters"],
)
def test_an_input_that_fits_is_in_the_variable(text: str) -> None:
    """Up to the limit in bytes a module finds its input in STACK_INPUT_YAML, and no file is named."""
    variables = environment({}, stack_input=text)

    assert {name: variables[name] for name in INPUT_VARIABLES & variables.keys()} == {"STACK_INPUT_YAML": text}


@pytest.mark.parametrize(
    "text",
    ["x" * (STACK_INPUT_LIMIT + 1), "é" * (STACK_INPUT_LIMIT // 2 + 1), "😀" * (STACK_INPUT_LIMIT // 4 + 1)],
    ids=["one byte more", "two-byte letters", "four-byte letters"],
)
def test_a_longer_input_is_in_a_file_under_both_names(text: str) -> None:
    """Beyond the limit modules of every year find the file, and no content that would come first."""
    variables = environment({}, stack_input=text)

    assert {name: variables[name] for name in INPUT_VARIABLES & variables.keys()} == {
        "STACK_INPUT_YAML_FILE": str(FILE),
        "STACK_INPUT_FILE_PATH": str(FILE),
    }


def child_sees(value: str) -> int:
    """How many bytes of the stack input a real child finds in its environment."""
    script = "import os; print(len(os.environb[b'STACK_INPUT_YAML']))"
    variables = environment({"PATH": os.environ["PATH"]}, stack_input="") | {"STACK_INPUT_YAML": value}
    child = subprocess.run([sys.executable, "-IS", "-c", script], env=variables, capture_output=True, check=True)
    return int(child.stdout)


@pytest.mark.parametrize("letter", ["x", "é"])
def test_the_kernel_hands_over_the_longest_input(letter: str) -> None:
    """A real child gets a value of exactly the limit, whole."""
    assert child_sees(letter * (STACK_INPUT_LIMIT // len(letter.encode()))) == STACK_INPUT_LIMIT


def test_the_kernel_refuses_one_byte_more() -> None:
    """The limit is not smaller than it has to be: 32 pages for name, value and the NUL at the end."""
    most = 32 * os.sysconf("SC_PAGE_SIZE") - len("STACK_INPUT_YAML=") - 1

    assert os.sysconf("SC_PAGE_SIZE") > 4096 or most == STACK_INPUT_LIMIT
    with pytest.raises(OSError) as caught:  # noqa: PT011 (its number is what is looked at)
        child_sees("x" * (most + 1))
    assert caught.value.errno == errno.E2BIG


# --- the arguments

CLI = Path("/opt/pulumi/bin/pulumi")
UPDATE = StackUpdateId(new_id(utc_now()))
EVENTS = Path("/runs/x/02-up/events")


def test_the_arguments_of_a_deployment() -> None:
    """`pulumi up` of this stack, without a question, with the event log where it will be read."""
    assert pulumi.up(CLI, STACK, EVENTS, UPDATE) == (
        *("/opt/pulumi/bin/pulumi", "up", "--stack", "organization/demo/dev", "--yes", "--skip-preview"),
        *("--suppress-progress", "--event-log", "/runs/x/02-up/events", "--message", UPDATE),
        *("--non-interactive", "--color", "never"),
    )  # fmt: skip


def test_the_arguments_around_a_deployment() -> None:
    """A stack is made without being selected for others; a lock is removed without a question."""
    quiet = ("--non-interactive", "--color", "never")

    made = pulumi.stack_init(CLI, STACK)
    removed = pulumi.cancel(CLI, STACK)

    assert made == (str(CLI), "stack", "init", "--stack", STACK, "--no-select", *quiet)
    assert removed == (str(CLI), "cancel", "--stack", STACK, "--yes", *quiet)


FLAGS = {
    *("--stack", "--yes", "--skip-preview", "--suppress-progress", "--event-log", "--message", "--no-select"),
    *("--non-interactive", "--color"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["a", ".a", "_", "a-", "9", "a.yaml", "p" * 100])
def test_no_value_can_be_taken_for_a_flag(name: str) -> None:
    """Whatever a manifest may name its stack, each argument is a flag of ours, a value of one, or a subcommand."""
    labels = f"    pulumi.openmcf.org/stack.fqdn: organization/{name}/{name}\n"
    manifest = parse(f"kind: Demo\nmetadata:\n  name: --help\n  labels:\n{labels}")
    stack = stack_fqdn(manifest, self_managed=True)

    for argv in (pulumi.up(CLI, stack, EVENTS, UPDATE), pulumi.stack_init(CLI, stack), pulumi.cancel(CLI, stack)):
        assert {argument for argument in argv if argument.startswith("-")} <= FLAGS
        assert argv[argv.index("--stack") + 1] == f"organization/{name}/{name}"
        assert not set(argv) & {"", "--help"}


# --- secrets


def test_secrets_are_the_passphrase_and_what_is_named_like_one(tmp_path: Path) -> None:
    """Everything that Pulumi sees and nobody else may is known: passphrase, keys, tokens, passwords."""
    file = tmp_path / "passphrase"
    file.write_text("open sesame, open\n")
    service = {
        "AWS_SECRET_ACCESS_KEY": "aws-secret-value",
        "AWS_ACCESS_KEY_ID": "aws-access-value",
        "AWS_SESSION_TOKEN": "aws-session-value",
        "ARM_CLIENT_SECRET": "arm-secret-value",
        "OS_PASSWORD": "os-password-value",
        "GOOGLE_CREDENTIALS": '{"private_key": "x"}',
        "AWS_REGION": "eu-central-1",
        "HOME": "/home/somebody",
        "STACKCAST_TOKEN": "never passed on",
        "MINE_TOKEN": "passed-by-setting",
    }

    secrets = replace(settings(service, "MINE_*"), passphrase_file=file).secrets()

    assert secrets == {
        "open sesame, open",
        "aws-secret-value",
        "aws-access-value",
        "aws-session-value",
        "arm-secret-value",
        "os-password-value",
        '{"private_key": "x"}',
        '{\\"private_key\\": \\"x\\"}',
        "passed-by-setting",
    }


URLS = {
    "postgres://ann:hunter2-long@db.example/state": {"hunter2-long"},
    "postgres://ann:hunter2%2Flong@db.example/state?sslmode=require": {"hunter2%2Flong", "hunter2/long"},
    "postgres://db.example/state?user=somebody&password=hunter2-long": {"hunter2-long"},
    "azblob://bucket?sig=abc%2Bdefgh&region=eu-central-1": {"abc%2Bdefgh", "abc+defgh"},
    "https://token-alone@proxy.example:8080": {"token-alone"},
    "ann:hunter2-long@proxy.example:8080": {"hunter2-long"},
    "s3://bucket/path?region=eu-central-1": set(),
    "file:///srv/somewhere:else/state": set(),
    "http://[": set(),
}


@pytest.mark.parametrize(("url", "secrets"), URLS.items(), ids=URLS)
def test_passwords_in_urls_are_secrets(url: str, secrets: set[str]) -> None:
    """Of the backend and of proxies, as they are written and decoded; a region in an URL is none."""
    assert replace(settings({}), backend_url=url).secrets() == secrets
    assert settings({"HTTPS_PROXY": url}).secrets() == secrets


def test_what_the_operator_passes_on_is_secret_whatever_its_name() -> None:
    """Nobody passes on a variable by name that everybody may read; what is passed anyway stays as it was."""
    service = {"VAULT_LOGIN": "a long value", "HOME": "/home/somebody", "SHORT": "seven77"}

    assert settings(service, "*").secrets() == {"a long value"}


def test_a_secret_of_several_lines_is_known_within_json_and_line_by_line() -> None:
    """A program that prints its configuration as JSON writes the end of a line as two characters.

    Output is looked at by lines; a line too short to be a secret stands in ordinary words.
    """
    key = "-----BEGIN-----\nä\n        \r\n  -----END-----\r\n"

    assert settings({"GOOGLE_PRIVATE_KEY": key}).secrets() == {
        key,
        "-----BEGIN-----\\nä\\n        \\r\\n  -----END-----\\r\\n",
        "-----BEGIN-----\\n\\u00e4\\n        \\r\\n  -----END-----\\r\\n",
        "-----BEGIN-----",
        "-----END-----",
    }


def test_each_line_of_a_secret_is_known_within_json() -> None:
    """A line of a secret that is itself JSON is printed with other quotes."""
    secrets = settings({"GOOGLE_CREDENTIALS": '{\n  "private_key": "x"\n}'}).secrets()

    assert {'"private_key": "x"', '\\"private_key\\": \\"x\\"'} <= secrets
    assert min(map(len, secrets)) >= 8


def test_a_passphrase_without_a_file_is_a_secret() -> None:
    """A passphrase that was set as itself is hidden too."""
    assert replace(settings({}), passphrase=PASSPHRASE, passphrase_file=None).secrets() == {PASSPHRASE}


def test_short_values_are_no_secrets() -> None:
    """A value of a few letters would be found inside ordinary words."""
    assert settings({"AWS_SECRET_ACCESS_KEY": "seven77", "OS_PASSWORD": "", "DD_API_KEY": "eight888"}).secrets() == {
        "eight888"
    }


def test_a_passphrase_file_that_is_gone_is_no_secret() -> None:
    """What can't be read can't be hidden, and Pulumi says what is missing."""
    assert settings({}).secrets() == frozenset()


def test_settings_are_shown_without_secrets() -> None:
    """Neither passphrase nor environment stands in what may be logged."""
    shown = repr(replace(settings({"AWS_SECRET_ACCESS_KEY": "aws-secret"}), passphrase=PASSPHRASE))

    assert "aws-secret" not in shown
    assert PASSPHRASE not in shown
