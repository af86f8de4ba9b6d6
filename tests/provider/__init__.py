"""A provider for the real Pulumi whose resource is a real file, so that deployments are slow, fail and change for real.

`install` puts it where Pulumi finds it; `module` writes a program of `FileResource`s. `provider` is its process.

Each operation (create, update, delete) on a file first logs what it was asked to, then makes the empty file
`<path>.<operation>-began`, takes its seconds, and only then fails, or writes or removes the file. While it takes its
seconds, Cancel makes it fail at once, unless the file ignores that, and a file `<path>.go` lets it go on at once.
A path that changes replaces the resource, the new file being made first. If a file that replaces on change changes
otherwise, the old one is deleted first. What somebody else did to the file is seen, and repaired, by a refresh.

A resource's outputs are its properties, `size` in bytes and, as a secret, `token`, a digest of the content.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Log:
    """A text that each operation logs through Pulumi's engine. Severities: debug, info, warning, error."""

    severity: str
    text: str
    times: int = 1
    ephemeral: bool = False


@dataclass(frozen=True)
class FileResource:
    """A file that a program makes. ``fail_on`` has operations, or `check`; a secret one's content is a secret."""

    name: str
    path: Path
    content: str = ""
    secret: bool = False
    create_seconds: float = 0
    update_seconds: float = 0
    delete_seconds: float = 0
    fail_on: Sequence[str] = ()
    ignore_cancel: bool = False
    replace_on_change: bool = False
    log: Sequence[Log] = ()
    depends_on: Sequence[str] = ()

    def began(self, operation: str) -> Path:
        """The file that says that an operation has begun; remove it to wait for the next one."""
        return self.path.with_name(f"{self.path.name}.{operation}-began")

    @property
    def go(self) -> Path:
        """The file that ends all waiting once somebody makes it."""
        return self.path.with_name(f"{self.path.name}.go")

    def declaration(self) -> dict[str, Any]:
        """The resource as a YAML program has it, without what was not asked for."""
        properties = {
            "path": str(self.path),
            "content": {"fn::secret": self.content} if self.secret else self.content,
            "createSeconds": self.create_seconds,
            "updateSeconds": self.update_seconds,
            "deleteSeconds": self.delete_seconds,
            "failOn": list(self.fail_on),
            "ignoreCancel": self.ignore_cancel,
            "replaceOnChange": self.replace_on_change,
            "log": [asdict(entry) for entry in self.log],
        }
        asked = {name: value for name, value in properties.items() if value}
        options = {"dependsOn": [f"${{{name}}}" for name in self.depends_on]}
        return {"type": "filetest:index:File", "properties": asked, "options": options}


def install(pulumi_home: Path) -> Path:
    """Make the provider's executable, run by this test's Python, in Pulumi's home; before or after a service starts."""
    for directory in (pulumi_home.parent, pulumi_home):
        directory.mkdir(mode=0o700, exist_ok=True)  # a service refuses a data directory that others can read
    path = pulumi_home / "plugins" / "resource-filetest-v0.1.0" / "pulumi-resource-filetest"
    path.parent.mkdir(parents=True, exist_ok=True)
    process = Path(__file__).with_name("provider.py")
    path.write_text(f"#!{sys.executable}\nimport runpy\nrunpy.run_path({str(process)!r}, run_name='__main__')\n")
    path.chmod(0o755)
    return path


def module(directory: Path, resources: Sequence[FileResource], outputs: Mapping[str, Any] | None = None) -> Path:
    """Write a YAML program into a directory, which may hold an older one. Outputs are such as `${name.size}`."""
    program = {
        "name": "files",
        "runtime": "yaml",
        "resources": {resource.name: resource.declaration() for resource in resources},
        "outputs": dict(outputs or {}),
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "Pulumi.yaml").write_text(yaml.safe_dump(program, sort_keys=False))
    return directory
