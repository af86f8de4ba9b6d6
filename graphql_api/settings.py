"""All settings, read once from the environment; nothing else reads it."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from graphql_api.domain.errors import StartRefused

#: About three years: longer than anything here lasts, and still a duration everywhere.
_MOST_SECONDS = 100_000_000
#: A century: as good as for ever.
_MOST_DAYS = 36_500
#: A million of them is as good as no limit, and can still be counted in bytes.
_MOST_MEBIBYTES = 1024 * 1024
#: Variables that may be in a file instead, which a variable with `_FILE` at its end names: secrets of containers are.
_IN_FILES = ("STACKCAST_TOKEN", "STACKCAST_DATABASE_URL")
#: The fewest characters that a token may have.
TOKEN_LENGTH = 16
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
#: Listening on one of these is listening on every address; under which of them this machine asks itself.
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (names, nothing is bound here)


def _split_commas(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MOST_SECONDS:
        raise ValueError(f"it must be a number of seconds from 0 to {_MOST_SECONDS}")
    return timedelta(seconds=seconds)


def _sendable(value: object) -> object:
    """A token as it can be sent in a header, where spaces at the ends get lost."""
    if not isinstance(value, str):
        return value
    token = value.strip()
    if not (token.isascii() and token.isprintable()):
        raise ValueError("it must be one line of printable ASCII characters (`openssl rand -hex 32` makes one)")
    return token


def _expandable(value: Path) -> Path:
    _expanded(value)
    return value


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("it names a home directory that nobody has here; write an absolute path") from None


def _browser_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    """Origins in the form that browsers send."""
    return tuple(origin.lower().rstrip("/") for origin in origins)


def _absolute_backend(url: str) -> str:
    """A ``file://`` URL made absolute: Pulumi runs in a private directory, where a relative one would be forgotten."""
    if not url.startswith("file://"):
        return url
    path, mark, query = url.removeprefix("file://").partition("?")
    if path.startswith("/"):
        return url
    home, _, below = path.partition("/") if path.startswith("~") else ("", "", path)
    base = quote(str(_expanded(Path(home)).absolute()))
    return f"file://{posixpath.normpath(posixpath.join(base, below))}{mark}{query}"


Names = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]
Origins = Annotated[Names, AfterValidator(_browser_origins)]
Place = Annotated[Path, AfterValidator(_expandable)]
Token = Annotated[SecretStr, BeforeValidator(_sendable)]
BackendUrl = Annotated[str, AfterValidator(_absolute_backend)]
Seconds = Annotated[timedelta, BeforeValidator(_seconds)]


class Settings(BaseModel):
    """What can be set, each field under the name of its environment variable; durations are in seconds there."""

    model_config = ConfigDict(frozen=True, validate_default=True, extra="forbid")

    host: str = Field("127.0.0.1", alias="STACKCAST_HOST", description="Address to listen on.")
    port: int = Field(8321, alias="STACKCAST_PORT", ge=0, le=65535, description="Port; 0 takes a free one.")
    token: Token | None = Field(
        None,
        alias="STACKCAST_TOKEN",
        min_length=TOKEN_LENGTH,
        description="Bearer token that all but health probes must carry; this or STACKCAST_TOKENS_FILE is required to "
        "listen beyond loopback.",
    )
    token_file: Place | None = Field(
        None, alias="STACKCAST_TOKEN_FILE", description="File with that token, where STACKCAST_TOKEN is not set."
    )
    tokens_file: Place | None = Field(
        None,
        alias="STACKCAST_TOKENS_FILE",
        description="File of more tokens, lines of `NAME:TOKEN`; the name is kept with what its token asks for.",
    )
    data_dir: Place = Field(
        Path(".stackcast"), alias="STACKCAST_DATA_DIR", description="Directory of all state; made with mode 0700."
    )
    database_url: str = Field(
        "",
        alias="STACKCAST_DATABASE_URL",
        repr=False,  # it may hold a password, and so may the next
        description="`sqlite:///PATH` or `mongodb://HOST/NAME`; by default SQLite in the data directory.",
    )
    database_url_file: Place | None = Field(
        None,
        alias="STACKCAST_DATABASE_URL_FILE",
        description="File with that URL, where STACKCAST_DATABASE_URL is not set.",
    )
    modules: Place | None = Field(
        None,
        alias="STACKCAST_MODULES",
        description="Directory of Pulumi modules, one folder for each kind, named in lower case.",
    )
    module_dir: Place | None = Field(
        None,
        alias="PULUMI_MODULE_DIR",
        description="One Pulumi module for all kinds, where STACKCAST_MODULES is not set.",
    )
    backend_url: BackendUrl = Field(
        "",
        alias="PULUMI_BACKEND_URL",
        repr=False,
        description="URL of Pulumi's backend; by default the directory that the next names.",
    )
    state_dir: Place | None = Field(
        None,
        alias="PULUMI_STATE_DIR",
        description="Directory of Pulumi's state; by default `state` in the data directory. Made with mode 0700.",
    )
    pulumi_home: Place | None = Field(
        None,
        alias="PULUMI_HOME",
        description="Pulumi's plugins and logs; by default `pulumi` in the data directory.",
    )
    passphrase: SecretStr | None = Field(
        None, alias="PULUMI_CONFIG_PASSPHRASE", description="Passphrase for the stacks' secrets."
    )
    passphrase_file: Place | None = Field(
        None,
        alias="PULUMI_CONFIG_PASSPHRASE_FILE",
        description="File with that passphrase; by default a random one is made in the data directory.",
    )
    pass_env: Names = Field(
        (),
        alias="STACKCAST_PASS_ENV",
        description="Names of more variables for Pulumi to see, with commas; `NAME*` matches a prefix.",
    )
    deploy_timeout: Seconds = Field(
        timedelta(seconds=600),
        alias="STACKCAST_DEPLOY_TIMEOUT",
        gt=timedelta(0),
        description="How long a deployment may run unless it asks for another time.",
    )
    deploy_timeout_limit: Seconds = Field(
        timedelta(seconds=21600),
        alias="STACKCAST_DEPLOY_TIMEOUT_LIMIT",
        gt=timedelta(0),
        description="The longest time that a deployment may ask for; more is cut to this.",
    )
    interrupt_grace: Seconds = Field(
        timedelta(seconds=30),
        alias="STACKCAST_INTERRUPT_GRACE",
        ge=timedelta(0),
        description="After the first SIGTERM (finish the resource in hand), how long until the second.",
    )
    terminate_grace: Seconds = Field(
        timedelta(seconds=10),
        alias="STACKCAST_TERMINATE_GRACE",
        ge=timedelta(0),
        description="After the second SIGTERM (stop at once), how long until SIGKILL.",
    )
    log_limit: int = Field(
        256,
        alias="STACKCAST_LOG_LIMIT",
        ge=1,
        le=_MOST_MEBIBYTES,
        description="MiB of lines kept of one deployment's log; of what comes after, only the last lines are.",
    )
    output_limit: int = Field(
        4096,
        alias="STACKCAST_OUTPUT_LIMIT",
        ge=1,
        le=_MOST_MEBIBYTES,
        description="MiB of output that one deployment may write, beyond which it is ended.",
    )
    memory_limit: int | None = Field(
        None,
        alias="STACKCAST_MEMORY_LIMIT",
        ge=1,
        le=_MOST_MEBIBYTES,
        description="MiB of memory that one deployment may use, beyond which it is ended; by default 80 % of all.",
    )
    max_concurrent: int = Field(
        os.cpu_count() or 1,
        alias="STACKCAST_MAX_CONCURRENT",
        ge=1,
        le=1000,
        description="Deployments at once, on different stacks; by default the number of cores.",
    )
    shutdown: Literal["handover", "drain"] = Field(
        "handover",
        alias="STACKCAST_SHUTDOWN",
        description="What a shutdown does with deployments: `handover` to the next start, or `drain`.",
    )
    shutdown_grace: Seconds = Field(
        timedelta(seconds=60),
        alias="STACKCAST_SHUTDOWN_GRACE",
        ge=timedelta(seconds=1),
        description="How long a drain may take: half of it lets deployments finish, the rest ends them.",
    )
    retention_days: float = Field(
        90,
        alias="STACKCAST_RETENTION_DAYS",
        ge=0,
        le=_MOST_DAYS,
        description="Days for which an ended stack update is kept, with its log; 0 keeps all for ever.",
    )
    retention_newest: int = Field(
        20,
        alias="STACKCAST_RETENTION_NEWEST",
        ge=1,
        le=1_000_000,
        description="How many ended stack updates of each cloud resource, the newest, are kept however old.",
    )
    allowed_hosts: Names = Field(
        (),
        alias="STACKCAST_ALLOWED_HOSTS",
        description="Host names under which clients may ask, besides loopback's and STACKCAST_HOST; `*` is any name.",
    )
    allowed_origins: Origins = Field(
        (),
        alias="STACKCAST_ALLOWED_ORIGINS",
        description="Origins of web pages that may ask, besides the server's own, such as `https://portal.example`.",
    )
    environment: Mapping[str, str] = Field({}, exclude=True, repr=False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings. Raises StartRefused with one sentence for each variable that can't be used."""
        names = {field.alias for field in cls.model_fields.values() if field.alias}
        given = {name: environ[name] for name in names & environ.keys() if environ[name] != ""}
        try:
            return cls.model_validate({**_from_files(given), "environment": dict(environ)})
        except ValidationError as error:
            raise StartRefused(_sentences(error)) from None

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        if self.host not in LOOPBACK and self.token is None and self.tokens_file is None:
            raise ValueError(
                f"STACKCAST_HOST is {self.host}, which others can reach: set STACKCAST_TOKEN to a secret of at least "
                f"{TOKEN_LENGTH} characters (`openssl rand -hex 32` makes one), name a file of tokens in "
                "STACKCAST_TOKENS_FILE, or listen on 127.0.0.1."
            )
        return self

    @property
    def self_managed(self) -> bool:
        """True when Pulumi's backend is a file, a bucket or a database: anything but a Pulumi Cloud."""
        return not self.backend_url.startswith(("https://", "http://"))

    @property
    def retention(self) -> timedelta | None:
        """How long an ended stack update is kept; None for ever."""
        return timedelta(days=self.retention_days) if self.retention_days else None

    @property
    def data_path(self) -> Path:
        """The data directory, absolute."""
        return self.data_dir.expanduser().absolute()

    @property
    def state_path(self) -> Path:
        """Where Pulumi keeps its state, absolute, unless the backend's URL is set."""
        return self.state_dir.expanduser().absolute() if self.state_dir else self.data_path / "state"

    @property
    def store_url(self) -> str:
        """The database's URL, the default filled in; it may hold a password."""
        return self.database_url or f"sqlite:///{self.data_path / 'stackcast.db'}"


def _from_files(given: Mapping[str, str]) -> dict[str, str]:
    """The same, with what stands in a file where the variable itself is not set."""
    read = {
        name: _secret(file_name, Path(given[file_name]))
        for name in _IN_FILES
        if (file_name := f"{name}_FILE") in given and name not in given
    }
    return {**given, **read}


def _secret(name: str, file: Path) -> str:
    try:
        file = _expanded(file)
    except ValueError as error:
        raise StartRefused(f"{name} can't be used: {error}.") from None
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise StartRefused(
            f"{name} can't be used: reading {file}: {error.strerror}. Name a file that this service's user can read."
        ) from None
    except ValueError:
        lines = []
    if len(lines) != 1 or lines[0].strip() == "":  # an empty token would open the service to everyone
        raise StartRefused(f"{name} can't be used: {file} must hold the secret as its only line.")
    return lines[0]


def _sentences(error: ValidationError) -> str:
    def sentence(fault: Any) -> str:
        name = str(fault["loc"][0]) if fault["loc"] else ""
        reason = fault["msg"].removeprefix("Value error, ")
        return f"{name} can't be used: {reason}." if name else reason

    return " ".join(sentence(fault) for fault in error.errors(include_input=False, include_url=False))
