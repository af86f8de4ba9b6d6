"""Settings: defaults, every variable, and the sentences for values that can't be used."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from graphql_api.domain.errors import StartRefused
from graphql_api.settings import Settings

TOKEN = "0123456789abcdef"  # noqa: S105 (of no service)

DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 8321,
    "token": None,
    "token_file": None,
    "tokens_file": None,
    "data_dir": Path(".stackcast"),
    "database_url": "",
    "database_url_file": None,
    "modules": None,
    "module_dir": None,
    "backend_url": "",
    "state_dir": None,
    "pulumi_home": None,
    "passphrase": None,
    "passphrase_file": None,
    "pass_env": (),
    "deploy_timeout": timedelta(seconds=600),
    "deploy_timeout_limit": timedelta(hours=6),
    "interrupt_grace": timedelta(seconds=30),
    "terminate_grace": timedelta(seconds=10),
    "log_limit": 256,
    "output_limit": 4096,
    "memory_limit": None,
    "max_concurrent": os.cpu_count(),
    "shutdown": "handover",
    "shutdown_grace": timedelta(seconds=60),
    "retention_days": 90,
    "retention_newest": 20,
    "allowed_hosts": (),
    "allowed_origins": (),
    "environment": {},
}

VARIABLES: dict[str, tuple[str, str, object]] = {
    "STACKCAST_HOST": ("host", "::1", "::1"),
    "STACKCAST_PORT": ("port", "0", 0),
    "STACKCAST_TOKEN": ("token", TOKEN, SecretStr(TOKEN)),
    "STACKCAST_TOKENS_FILE": ("tokens_file", "/run/tokens", Path("/run/tokens")),
    "STACKCAST_DATA_DIR": ("data_dir", "/srv/stackcast", Path("/srv/stackcast")),
    "STACKCAST_DATABASE_URL": ("database_url", "sqlite:///x.db", "sqlite:///x.db"),
    "STACKCAST_MODULES": ("modules", "/srv/modules", Path("/srv/modules")),
    "PULUMI_MODULE_DIR": ("module_dir", "/srv/module", Path("/srv/module")),
    "PULUMI_BACKEND_URL": ("backend_url", "s3://bucket", "s3://bucket"),
    "PULUMI_STATE_DIR": ("state_dir", "/srv/state", Path("/srv/state")),
    "PULUMI_HOME": ("pulumi_home", "/srv/pulumi", Path("/srv/pulumi")),
    "PULUMI_CONFIG_PASSPHRASE": ("passphrase", "pass phrase", SecretStr("pass phrase")),
    "PULUMI_CONFIG_PASSPHRASE_FILE": ("passphrase_file", "/run/secret", Path("/run/secret")),
    "STACKCAST_PASS_ENV": ("pass_env", "ONE, TWO_*,,", ("ONE", "TWO_*")),
    "STACKCAST_DEPLOY_TIMEOUT": ("deploy_timeout", "90.5", timedelta(seconds=90.5)),
    "STACKCAST_DEPLOY_TIMEOUT_LIMIT": ("deploy_timeout_limit", "3600", timedelta(hours=1)),
    "STACKCAST_INTERRUPT_GRACE": ("interrupt_grace", "0", timedelta(0)),
    "STACKCAST_TERMINATE_GRACE": ("terminate_grace", "1", timedelta(seconds=1)),
    "STACKCAST_LOG_LIMIT": ("log_limit", "1", 1),
    "STACKCAST_OUTPUT_LIMIT": ("output_limit", "8192", 8192),
    "STACKCAST_MEMORY_LIMIT": ("memory_limit", "512", 512),
    "STACKCAST_MAX_CONCURRENT": ("max_concurrent", "3", 3),
    "STACKCAST_SHUTDOWN": ("shutdown", "drain", "drain"),
    "STACKCAST_SHUTDOWN_GRACE": ("shutdown_grace", "5", timedelta(seconds=5)),
    "STACKCAST_RETENTION_DAYS": ("retention_days", "0.5", 0.5),
    "STACKCAST_RETENTION_NEWEST": ("retention_newest", "1", 1),
    "STACKCAST_ALLOWED_HOSTS": ("allowed_hosts", "a.example,b.example", ("a.example", "b.example")),
    "STACKCAST_ALLOWED_ORIGINS": ("allowed_origins", "https://a.example", ("https://a.example",)),
}


#: Those that name a file which is read; they are tested below.
FILES = {"STACKCAST_TOKEN_FILE": "token", "STACKCAST_DATABASE_URL_FILE": "database_url"}


def refusal(environ: Mapping[str, str]) -> str:
    with pytest.raises(StartRefused) as caught:
        Settings.from_environment(environ)
    return caught.value.message


def test_the_defaults() -> None:
    """Without any variable the service listens on loopback and keeps everything in one directory."""
    settings = Settings.from_environment({})

    assert {name: getattr(settings, name) for name in Settings.model_fields} == DEFAULTS


@pytest.mark.parametrize("name", VARIABLES)
def test_each_variable_sets_its_field_and_no_other(name: str) -> None:
    """A variable means one thing, in the unit that is documented."""
    field, text, value = VARIABLES[name]

    settings = Settings.from_environment({name: text})

    found = {field_name: getattr(settings, field_name) for field_name in Settings.model_fields}
    assert found == DEFAULTS | {field: value, "environment": {name: text}}


def test_every_setting_is_tested_and_described() -> None:
    """No variable is without a test above and a sentence for the documentation."""
    fields = {name: field for name, field in Settings.model_fields.items() if field.alias}

    assert {field.alias for field in fields.values()} == {*VARIABLES, *FILES}
    assert all(field.description and field.description.endswith(".") for field in fields.values())
    assert set(Settings.model_fields) - set(fields) == {"environment"}


@pytest.mark.parametrize("name", [*VARIABLES, *FILES])
def test_an_empty_variable_is_an_unset_one(name: str) -> None:
    """What compose files and shells leave empty counts as not given."""
    settings = Settings.from_environment({name: ""})

    assert {field: getattr(settings, field) for field in Settings.model_fields} == DEFAULTS | {
        "environment": {name: ""}
    }


BAD = [
    ("STACKCAST_PORT", "http"),
    ("STACKCAST_PORT", "-1"),
    ("STACKCAST_PORT", "65536"),
    ("STACKCAST_PORT", "80.5"),
    ("STACKCAST_TOKEN", "fifteen letters"),
    ("STACKCAST_DEPLOY_TIMEOUT", "ten minutes"),
    ("STACKCAST_DEPLOY_TIMEOUT", "0"),
    ("STACKCAST_DEPLOY_TIMEOUT", "-1"),
    ("STACKCAST_DEPLOY_TIMEOUT", "nan"),
    ("STACKCAST_DEPLOY_TIMEOUT", "inf"),
    ("STACKCAST_DEPLOY_TIMEOUT", "1e30"),
    ("STACKCAST_DEPLOY_TIMEOUT_LIMIT", "0"),
    ("STACKCAST_INTERRUPT_GRACE", "-0.1"),
    ("STACKCAST_TERMINATE_GRACE", "-1"),
    ("STACKCAST_LOG_LIMIT", "0"),
    ("STACKCAST_OUTPUT_LIMIT", "0"),
    ("STACKCAST_OUTPUT_LIMIT", "4 GiB"),
    ("STACKCAST_MEMORY_LIMIT", "0"),
    ("STACKCAST_MEMORY_LIMIT", "1048577"),
    ("STACKCAST_MAX_CONCURRENT", "0"),
    ("STACKCAST_MAX_CONCURRENT", "1001"),
    ("STACKCAST_MAX_CONCURRENT", "all"),
    ("STACKCAST_SHUTDOWN", "at once"),
    ("STACKCAST_SHUTDOWN_GRACE", "0.9"),
    ("STACKCAST_RETENTION_DAYS", "-1"),
    ("STACKCAST_RETENTION_DAYS", "36501"),
    ("STACKCAST_RETENTION_DAYS", "nan"),
    ("STACKCAST_RETENTION_DAYS", "for ever"),
    ("STACKCAST_RETENTION_NEWEST", "0"),
    ("STACKCAST_RETENTION_NEWEST", "1000001"),
]


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_value_that_cannot_be_used_is_refused_by_name(name: str, text: str) -> None:
    """The start is refused with a sentence that names the variable."""
    message = refusal({name: text})

    assert re.fullmatch(rf"{name} can't be used: .+\.", message)
    assert "\n" not in message


def test_all_bad_values_are_told_at_once() -> None:
    """Whoever corrects the settings sees every fault in one go."""
    message = refusal({"STACKCAST_PORT": "x", "STACKCAST_MAX_CONCURRENT": "y"})

    assert "STACKCAST_PORT can't be used" in message
    assert "STACKCAST_MAX_CONCURRENT can't be used" in message


def test_a_token_that_is_too_short_is_not_repeated() -> None:
    """A refusal ends up in logs, so it holds no secret."""
    assert "fifteen" not in refusal({"STACKCAST_TOKEN": "fifteen letters"})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "stackcast.example", "127.0.0.2"])  # noqa: S104 (names)
def test_beyond_loopback_a_token_is_required(host: str) -> None:
    """Nobody offers an open deployment service by accident: the refusal says how to make a token."""
    message = refusal({"STACKCAST_HOST": host})

    assert message.startswith(f"STACKCAST_HOST is {host}, which others can reach: set STACKCAST_TOKEN")
    assert "127.0.0.1" in message
    assert "STACKCAST_TOKENS_FILE" in message
    assert Settings.from_environment({"STACKCAST_HOST": host, "STACKCAST_TOKENS_FILE": "/run/tokens"}).host == host
    assert Settings.from_environment({"STACKCAST_HOST": host, "STACKCAST_TOKEN": TOKEN}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_on_loopback_no_token_is_needed(host: str) -> None:
    """On the machine itself it runs without any setting."""
    assert Settings.from_environment({"STACKCAST_HOST": host}).token is None


SECRETS = {
    "STACKCAST_TOKEN": "token-of-the-service",
    "PULUMI_CONFIG_PASSPHRASE": "passphrase-of-stacks",
    "STACKCAST_DATABASE_URL": "mongodb://user:password-of-mongodb@db.example/stackcast",
    "PULUMI_BACKEND_URL": "postgres://user:password-of-backend@db.example/state",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-cloud",
}


@pytest.mark.parametrize("secret", [value.rpartition(":")[2].partition("@")[0] for value in SECRETS.values()])
def test_no_secret_is_shown(secret: str) -> None:
    """Settings that are printed or logged hold no secret, nor the environment they came from."""
    settings = Settings.from_environment(SECRETS)

    assert secret not in repr(settings)
    assert secret not in str(settings)


def test_secrets_can_be_used() -> None:
    """What is hidden is still there for whom it is meant."""
    settings = Settings.from_environment(SECRETS)

    assert settings.token
    assert settings.token.get_secret_value() == SECRETS["STACKCAST_TOKEN"]
    assert settings.store_url == SECRETS["STACKCAST_DATABASE_URL"]
    assert settings.environment["AWS_SECRET_ACCESS_KEY"] == SECRETS["AWS_SECRET_ACCESS_KEY"]


def test_other_variables_are_no_settings() -> None:
    """The rest of the environment is kept for Pulumi and changes nothing here."""
    settings = Settings.from_environment({"HOME": "/home/ann", "STACKCAST_UNKNOWN": "1"})

    assert settings.environment == {"HOME": "/home/ann", "STACKCAST_UNKNOWN": "1"}


def test_the_environment_is_a_copy() -> None:
    """What is changed in the environment later does not change the settings."""
    environ = {"STACKCAST_PORT": "1"}
    settings = Settings.from_environment(environ)

    environ["LATER"] = "x"

    assert "LATER" not in settings.environment


@pytest.mark.parametrize(
    ("url", "self_managed"),
    [
        ("", True),
        ("file:///srv/state", True),
        ("s3://bucket", True),
        ("gs://bucket", True),
        ("azblob://bucket", True),
        ("postgres://db.example/state", True),
        ("https://api.pulumi.com", False),
        ("http://pulumi.example:8080", False),
    ],
)
def test_a_backend_is_self_managed_unless_it_is_a_web_service(url: str, self_managed: bool) -> None:
    """Whether the organization has to be ``organization`` follows from the backend's URL."""
    assert Settings.from_environment({"PULUMI_BACKEND_URL": url}).self_managed is self_managed


def test_the_database_is_in_the_data_directory_unless_it_is_named() -> None:
    """By default everything is in one place, named absolutely."""
    assert Settings.from_environment({}).data_path == Path.cwd() / ".stackcast"
    settings = Settings.from_environment({"STACKCAST_DATA_DIR": "/srv/stackcast"})

    assert settings.store_url == "sqlite:////srv/stackcast/stackcast.db"


def test_a_tilde_is_the_home_directory() -> None:
    """Where no shell has replaced it, ``~`` still means home."""
    assert Settings.from_environment({"STACKCAST_DATA_DIR": "~/stackcast"}).data_path == Path.home() / "stackcast"


def shown(settings: Settings, field: str) -> str:
    value = getattr(settings, field)
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)


@pytest.mark.parametrize(("name", "field"), FILES.items())
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_may_be_in_a_file(tmp_path: Path, name: str, field: str, end: str) -> None:
    """The file's only line is the value, without the newline that editors put at its end."""
    file = tmp_path / "secret"
    file.write_bytes(TOKEN.encode() + end.encode())

    settings = Settings.from_environment({name: str(file)})

    assert shown(settings, field) == TOKEN
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize("name", FILES)
def test_the_variable_itself_comes_before_its_file(name: str) -> None:
    """Where both are set the file is not even read."""
    plain = name.removesuffix("_FILE")
    settings = Settings.from_environment({name: "/nowhere/secret", plain: TOKEN})

    assert shown(settings, FILES[name]) == TOKEN


@pytest.mark.parametrize("name", FILES)
def test_a_secret_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    """The sentence names the variable, the file and the reason."""
    message = refusal({name: str(tmp_path / "absent")})

    assert message.startswith(f"{name} can't be used: reading {tmp_path / 'absent'}: No such file or directory.")
    assert "Is a directory" in refusal({name: str(tmp_path)})


@pytest.mark.parametrize("content", [b"", b"\n", b"  \n", b"one-half-of-it\nother-half-of-it\n", b"\xff\xfe" * 16])
@pytest.mark.parametrize("name", FILES)
def test_a_secret_file_holds_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    """An empty file above all never means that no secret is wanted; and the refusal repeats nothing of the content."""
    file = tmp_path / "secret"
    file.write_bytes(content)

    message = refusal({name: str(file)})

    assert message == f"{name} can't be used: {file} must hold the secret as its only line."


def test_a_token_in_a_file_is_checked_as_any_other(tmp_path: Path) -> None:
    """A short one is refused, and it counts as a token beyond loopback."""
    file = tmp_path / "token"
    file.write_text("short\n")
    assert refusal({"STACKCAST_TOKEN_FILE": str(file)}).startswith("STACKCAST_TOKEN can't be used: ")

    file.write_text(f"{TOKEN}\n")
    environ = {"STACKCAST_HOST": "0.0.0.0", "STACKCAST_TOKEN_FILE": str(file)}  # noqa: S104 (a name)
    assert shown(Settings.from_environment(environ), "token") == TOKEN


@pytest.mark.parametrize("text", [f"{TOKEN}\n", f" {TOKEN}\r\n", f"\t{TOKEN} "])
def test_a_token_loses_the_spaces_around_it(text: str) -> None:
    """No header can carry them, so a token with its newline would match nothing that a client sends."""
    assert shown(Settings.from_environment({"STACKCAST_TOKEN": text}), "token") == TOKEN


@pytest.mark.parametrize(
    "text", ["token-of-two\nlines-of-text", "token-of-sécurité", "token-with-a-\x00-byte", " " * 20]
)
def test_a_token_that_no_header_can_carry_is_refused(text: str) -> None:
    """The refusal says what a token is, and repeats nothing of it."""
    message = refusal({"STACKCAST_TOKEN": text})

    assert message.startswith("STACKCAST_TOKEN can't be used: ")
    assert "\n" not in message
    assert "token-" not in message


PLACES = [
    "STACKCAST_DATA_DIR",
    "STACKCAST_MODULES",
    "PULUMI_MODULE_DIR",
    "PULUMI_STATE_DIR",
    "PULUMI_HOME",
    "PULUMI_CONFIG_PASSPHRASE_FILE",
    "STACKCAST_TOKEN_FILE",
    "STACKCAST_TOKENS_FILE",
    "STACKCAST_DATABASE_URL_FILE",
]


@pytest.mark.parametrize("name", PLACES)
def test_the_home_of_nobody_is_refused(name: str) -> None:
    """A path that begins with the home of a user who is not there is refused with a sentence."""
    assert refusal({name: "~nobody-has-this-name/x"}) == (
        f"{name} can't be used: it names a home directory that nobody has here; write an absolute path."
    )
    assert "PULUMI_BACKEND_URL" in refusal({"PULUMI_BACKEND_URL": "file://~nobody-has-this-name"})


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("file://.", "file://{cwd}"),
        ("file://", "file://{cwd}"),
        ("file://state", "file://{cwd}/state"),
        ("file://./state/../other?no_tmp_dir=true", "file://{cwd}/other?no_tmp_dir=true"),
        ("file://~", "file://{home}"),
        ("file://~/state", "file://{home}/state"),
        ("file:///srv/my%20state?no_tmp_dir=true", "file:///srv/my%20state?no_tmp_dir=true"),
        ("s3://bucket/./x", "s3://bucket/./x"),
    ],
)
def test_a_directory_as_the_backend_is_absolute(text: str, url: str) -> None:
    """Pulumi works in a directory of each run, with which the state would vanish: relative means relative to here."""
    settings = Settings.from_environment({"PULUMI_BACKEND_URL": text})

    assert settings.backend_url == url.format(cwd=quote(str(Path.cwd())), home=quote(str(Path.home())))


def test_origins_are_kept_as_browsers_send_them() -> None:
    """Capitals and a slash at the end, as addresses are often copied, change nothing."""
    settings = Settings.from_environment(
        {"STACKCAST_ALLOWED_ORIGINS": "HTTPS://Portal.Example/, http://a.example:8080"}
    )

    assert settings.allowed_origins == ("https://portal.example", "http://a.example:8080")


def test_the_state_is_in_the_data_directory_unless_it_is_named() -> None:
    """PULUMI_STATE_DIR, which Pulumi does not read, is the place of its backend of files."""
    data = {"STACKCAST_DATA_DIR": "/srv/stackcast"}
    assert Settings.from_environment(data).state_path == Path("/srv/stackcast/state")
    settings = Settings.from_environment({**data, "PULUMI_STATE_DIR": "state"})

    assert settings.state_path == Path.cwd() / "state"
    assert settings.backend_url == ""
    assert settings.self_managed


def test_the_backend_url_comes_before_the_state_directory() -> None:
    """Where both are set the URL is the backend."""
    settings = Settings.from_environment({"PULUMI_STATE_DIR": "/srv/state", "PULUMI_BACKEND_URL": "s3://bucket"})

    assert settings.backend_url == "s3://bucket"
