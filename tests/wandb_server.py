"""A stand-in for the W&B server on this machine: it answers what ``wandb`` 0.31 asks, and keeps what it is told.

It listens on 127.0.0.1 alone, on a port that the system chooses, and stops with its ``with`` block.
"""

import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENTITY = "somebody"
KEY = "0" * 40


@dataclass
class WandbRun:
    """What the server knows about one run."""

    id: str
    project: str = ""
    name: str = ""
    group: str | None = None
    job_type: str | None = None
    sweep: str | None = None
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)  # by line number: a line may be sent again
    summary: dict[str, Any] = field(default_factory=dict)
    finished: bool = False

    @property
    def history(self) -> list[dict[str, Any]]:
        """The logged rows in their order, without W&B's own keys."""
        return [_own(self.rows[n]) for n in sorted(self.rows)]

    @property
    def final(self) -> dict[str, Any]:
        """The summary without W&B's own keys."""
        return _own(self.summary)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """What ``define_metric`` said, as ``wandb`` encodes it in the configuration."""
        found: list[dict[str, Any]] = self.config["_wandb"]["m"]
        return found


def _own(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if not key.startswith("_")}


class WandbServer(ThreadingHTTPServer):
    """See the module; use :func:`wandb_server`."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.lock = threading.Lock()
        self.requests: list[str] = []  # the path, or the GraphQL operation, of everything that was asked
        self.unknown: list[str] = []  # what it had no answer for
        self.runs: dict[str, WandbRun] = {}
        self.views: list[dict[str, Any]] = []
        self.down = False  # refuse everything

    @property
    def url(self) -> str:
        """Its address, for WANDB_BASE_URL."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A client that goes away is no error; whatever else fails here is kept for the test to see."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            self.unknown.append(repr(error))

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any] | None:
        """The data that a GraphQL operation is answered with; None for an unknown one."""
        if operation == "UpsertBucket":
            return self._upsert_run(given)
        if operation == "UpsertView2":
            self.views.append({**given, "spec": json.loads(given["spec"])})
            return {"upsertView": {"view": {"id": f"view{len(self.views)}", "name": given["name"]}, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{given['run']}/{name}"} for name in given["files"]]
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
        if operation == "RunResumeStatus":
            return {"model": self._project(given["name"])}
        viewer = {"id": "viewer", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}
        return {
            "ServerFeaturesQuery": {"serverInfo": {"features": []}},
            "Viewer": {"viewer": viewer},
        }.get(operation)

    def _project(self, run_id: str) -> dict[str, Any]:
        """A project with the state of one run, from which a resumed run goes on; no run if it is new."""
        run = self.runs.get(run_id)
        found = {"id": "project", "name": "selector", "entity": {"id": "entity", "name": ENTITY}, "bucket": None}
        if run is None:
            return found
        bucket = {"id": run.id, "name": run.id, "displayName": run.name, "tags": run.tags, "notes": None}
        bucket |= {"logLineCount": 0, "eventsLineCount": 0, "historyLineCount": len(run.rows), "eventsTail": "[]"}
        tail = [json.dumps(run.rows[n]) for n in sorted(run.rows)[-1:]]
        config = {key: {"value": value} for key, value in run.config.items()}
        texts = {"summaryMetrics": run.summary, "config": config, "historyTail": tail, "wandbConfig": {"t": 1}}
        return {**found, "bucket": {**bucket, **{key: json.dumps(value) for key, value in texts.items()}}}

    def _upsert_run(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(given["name"], WandbRun(given["name"]))
        named = {"project": "project", "name": "displayName", "group": "groupName", "job_type": "jobType"}
        for attribute, variable in {**named, "tags": "tags", "sweep": "sweep"}.items():
            if given.get(variable):  # later calls leave out what does not change
                setattr(run, attribute, given[variable])
        if given.get("config"):
            run.config = {key: node["value"] for key, node in json.loads(given["config"]).items()}
        project = {"id": "project", "name": run.project, "entity": {"id": "entity", "name": ENTITY}}
        bucket = {"id": run.id, "name": run.id, "displayName": run.name, "config": "{}", "project": project}
        return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": 0, "sweepName": run.sweep}, "inserted": True}}

    def stream(self, run_id: str, told: dict[str, Any]) -> None:
        """Keep what a run's file stream brings."""
        run = self.runs[run_id]
        for name, chunk in told.get("files", {}).items():
            lines = [json.loads(line) for line in chunk["content"]] if name.startswith("wandb-") else []
            if name == "wandb-history.jsonl":
                run.rows |= dict(enumerate(lines, start=chunk["offset"]))
            elif name == "wandb-summary.json":
                run.summary = lines[-1]
        run.finished = run.finished or bool(told.get("complete"))


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer
    protocol_version = "HTTP/1.1"
    timeout = 30  # a connection that says nothing does not keep its thread

    def log_message(self, *args: Any) -> None:
        """Nothing is printed."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            if self.path == "/graphql":
                query = json.loads(body)
                operation = re.findall(r"(?:query|mutation)\s+(\w+)", query["query"])[0]
                self.server.requests.append(operation)
                data = None if self.server.down else self.server.answer(operation, query.get("variables") or {})
                if data is not None:
                    self._reply(200, {"data": data})
                    return
                if not self.server.down:
                    self.server.unknown.append(operation)
                self._reply(400, {"errors": [{"message": f"{operation} is refused"}]})
                return
            self.server.requests.append(self.path)
            stream = re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path)
            if stream is None or self.server.down:
                self.server.unknown.append(self.path)
                self._reply(404, {})
                return
            self.server.stream(stream[1], json.loads(body))
            self._reply(200, {"exitcode": None, "limits": {}})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            self.server.requests.append(self.path)
        self._reply(200, {})

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requests.append(self.path)
            self.server.unknown.append(self.path)
        self._reply(404, {})

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def wandb_server(port: int = 0) -> Iterator[WandbServer]:
    """A server that runs until the block ends; 0 is any free port."""
    server = WandbServer(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
