"""The process of the test provider, which Pulumi starts with the address of its engine.

It says its own port as its first line, answers Pulumi's calls, and ends when its parent does.
"""
# ruff: noqa: N802 - the methods' names are the protocol's

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty  # type: ignore[import-untyped]
from google.protobuf.json_format import MessageToDict, ParseDict  # type: ignore[import-untyped]
from google.protobuf.struct_pb2 import Struct  # type: ignore[import-untyped]

for _package in ("pulumi", "pulumi.runtime", "pulumi.runtime.proto"):
    # Of these only the stubs are needed: a package that is made but not executed has them, and costs nothing.
    _spec = find_spec(_package)
    assert _spec
    sys.modules[_package] = module_from_spec(_spec)

from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc  # noqa: E402

VERSION = "0.1.0"
WORKERS = 64  # a slow operation holds one, and Cancel needs one
INTERVAL = 0.01  # seconds

STRING, NUMBER, BOOLEAN = {"type": "string"}, {"type": "number"}, {"type": "boolean"}
LOG = {"severity": STRING, "text": STRING, "times": {"type": "integer"}, "ephemeral": BOOLEAN}
PROPERTIES = {
    "path": STRING,
    "content": STRING,
    "createSeconds": NUMBER,
    "updateSeconds": NUMBER,
    "deleteSeconds": NUMBER,
    "failOn": {"type": "array", "items": STRING},
    "ignoreCancel": BOOLEAN,
    "replaceOnChange": BOOLEAN,
    "log": {"type": "array", "items": {"$ref": "#/types/filetest:index:Log"}},
}
FILE = {
    "inputProperties": PROPERTIES,
    "requiredInputs": ["path"],
    "properties": {**PROPERTIES, "size": {"type": "integer"}, "token": {**STRING, "secret": True}},
    "required": ["path", "size", "token"],
}
SCHEMA = {
    "name": "filetest",
    "version": VERSION,
    "types": {"filetest:index:Log": {"type": "object", "properties": LOG, "required": ["severity", "text"]}},
    "resources": {"filetest:index:File": FILE},
}

Properties = dict[str, Any]


class FileProvider(provider_pb2_grpc.ResourceProviderServicer):
    """Makes, changes and deletes files, as slowly and as badly as their properties ask."""

    def __init__(self, engine: grpc.Channel) -> None:
        self._engine = engine_pb2_grpc.EngineStub(engine)
        self._cancelled = threading.Event()

    def Handshake(self, request: provider_pb2.ProviderHandshakeRequest, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse()

    def GetPluginInfo(self, request: Empty, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=VERSION)

    def GetSchema(self, request: provider_pb2.GetSchemaRequest, context: Any) -> Any:
        return provider_pb2.GetSchemaResponse(schema=json.dumps(SCHEMA))

    def CheckConfig(self, request: provider_pb2.CheckRequest, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def Configure(self, request: provider_pb2.ConfigureRequest, context: Any) -> Any:
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def Cancel(self, request: Empty, context: Any) -> Any:
        self._cancelled.set()  # it comes again and again, and at each end
        return Empty()

    def Check(self, request: provider_pb2.CheckRequest, context: Any) -> Any:
        refused = "check" in MessageToDict(request.news).get("failOn", ())
        failures = [provider_pb2.CheckFailure(property="failOn", reason="check fails as asked")] if refused else []
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def Diff(self, request: provider_pb2.DiffRequest, context: Any) -> Any:
        old, new = MessageToDict(request.old_inputs), MessageToDict(request.news)
        changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        moved = "path" in changed
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
            diffs=changed,
            replaces=changed if new.get("replaceOnChange") else ["path"] * moved,
            deleteBeforeReplace=not moved,  # or the new file would be removed in the old one's stead
        )

    def Create(self, request: provider_pb2.CreateRequest, context: Any) -> Any:
        if request.preview:
            return provider_pb2.CreateResponse(properties=request.properties)
        file = MessageToDict(request.properties)
        self._operate("create", file, request.urn, context)
        return provider_pb2.CreateResponse(id=file["path"], properties=_write(file))

    def Update(self, request: provider_pb2.UpdateRequest, context: Any) -> Any:
        if request.preview:
            return provider_pb2.UpdateResponse(properties=request.news)
        file = MessageToDict(request.news)
        self._operate("update", file, request.urn, context)
        return provider_pb2.UpdateResponse(properties=_write(file))

    def Delete(self, request: provider_pb2.DeleteRequest, context: Any) -> Any:
        self._operate("delete", MessageToDict(request.old_inputs), request.urn, context)
        Path(request.id).unlink(missing_ok=True)
        return Empty()

    def Read(self, request: provider_pb2.ReadRequest, context: Any) -> Any:
        path = Path(request.id)
        if not path.exists():
            return provider_pb2.ReadResponse()
        file = {**MessageToDict(request.inputs), "path": request.id}
        if (content := path.read_text()) != file.get("content", ""):
            file["content"] = content
        return provider_pb2.ReadResponse(id=request.id, inputs=_struct(file), properties=_outputs(file))

    def _operate(self, operation: str, file: Properties, urn: str, context: Any) -> None:
        """Log, wait and fail as the file asks. Failing is ending the call: the context raises."""
        for entry in file.get("log", ()):
            self._log(urn, **entry)
        path = Path(file["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"{path.name}.{operation}-began").touch()
        end = time.monotonic() + file.get(f"{operation}Seconds", 0)
        while time.monotonic() < end and not path.with_name(f"{path.name}.go").exists():
            time.sleep(INTERVAL)
            if self._cancelled.is_set() and not file.get("ignoreCancel"):
                context.abort(grpc.StatusCode.CANCELLED, f"{operation} was cancelled")
        if operation in file.get("failOn", ()):
            context.abort(grpc.StatusCode.UNKNOWN, f"{operation} fails as asked")

    def _log(self, urn: str, severity: str, text: str, times: float = 1, ephemeral: bool = False) -> None:
        level = engine_pb2.LogSeverity.Value(severity.upper())
        for _ in range(int(times)):
            self._engine.Log(engine_pb2.LogRequest(severity=level, message=text, urn=urn, ephemeral=ephemeral))


def _write(file: Properties) -> Struct:
    Path(file["path"]).write_text(file.get("content", ""))
    return _outputs(file)


def _outputs(file: Properties) -> Struct:
    content = file.get("content", "").encode()
    return _struct({**file, "size": len(content), "token": hashlib.sha256(content).hexdigest()})


def _struct(properties: Properties) -> Struct:
    return ParseDict(properties, Struct())


def main(engine: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # with which Pulumi ends its plugins: no traceback
    parent = os.pidfd_open(os.getppid())
    server = grpc.server(ThreadPoolExecutor(WORKERS))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(FileProvider(grpc.insecure_channel(engine)), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)  # noqa: T201 - so the protocol begins
    select.select([parent], [], [])  # its end makes it readable
    os._exit(0)  # whatever is being done


if __name__ == "__main__":
    main(sys.argv[1])
