"""A real ComfyUI for tests: started on the CPU in a fresh folder with this pack linked in, driven through HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
START_SECONDS = 900
RUN_SECONDS = 1500

Graph = dict[str, dict[str, Any]]


class Host:
    """A running ComfyUI. Folders hang under `base`: output, input, temp, models, custom_nodes."""

    def __init__(self, base: Path, port: int) -> None:
        self.base, self.url = base, f"http://127.0.0.1:{port}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=300) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: Any = None) -> Any:
        """The answer's JSON; of a refused prompt too."""
        data = json.dumps(body or {}).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read()
        return json.loads(text) if text else None

    def queue(self, graph: Graph, **extra: Any) -> str:
        """Queue a graph in API format; its prompt id."""
        answer = self.post("/prompt", {"prompt": graph, "client_id": "tests", **extra})
        assert "prompt_id" in answer, json.dumps(answer, indent=1)[:3000]
        return str(answer["prompt_id"])

    def wait(self, prompt_id: str, seconds: float = RUN_SECONDS) -> dict[str, Any]:
        """The history entry of a prompt that has ended, however it ended."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return dict(history[prompt_id])
            time.sleep(0.2)
        raise TimeoutError(f"prompt {prompt_id} did not end in {seconds} s")

    def run(self, graph: Graph, seconds: float = RUN_SECONDS, **extra: Any) -> dict[str, Any]:
        """Queue, wait, and fail unless it succeeded; the history entry."""
        entry = self.wait(self.queue(graph, **extra), seconds)
        assert entry["status"]["status_str"] == "success", self.error(entry)
        return entry

    def error(self, entry: dict[str, Any]) -> str:
        """What the node said that failed, with its trace behind it."""
        for kind, data in entry["status"]["messages"]:
            if kind == "execution_error":
                return f"{data['node_type']}: {data['exception_message']}\n{''.join(data['traceback'])}"
        return str(entry["status"])

    def executed(self, entry: dict[str, Any]) -> set[str]:
        """Ids of the nodes that were not taken from the cache (those that have a message of it)."""
        cached: set[str] = set()
        for kind, data in entry["status"]["messages"]:
            if kind == "execution_cached":
                cached |= set(data["nodes"])
        return set(entry["prompt"][2]) - cached

    def output(self, name: str) -> Path:
        return self.base / "output" / name


@contextlib.contextmanager
def running_host(comfyui: Path, base: Path, *options: str) -> Iterator[Host]:
    """Start ComfyUI with this pack and one of hostile nodes in `base/custom_nodes`, give it, and stop it."""
    (base / "custom_nodes").mkdir(parents=True)
    for name, pack in (("humannorm-test-pack", ROOT), ("hostile-test-pack", Path(__file__).parent / "hostile_pack")):
        (base / "custom_nodes" / name).symlink_to(pack, target_is_directory=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = base / "server.log"
    command = [
        os.environ.get("COMFYUI_PYTHON", sys.executable),
        str(comfyui / "main.py"),
        "--cpu",
        "--port", str(port),
        "--base-directory", str(base),
        "--database-url", "sqlite:///:memory:",
        "--disable-api-nodes",
        *options,
    ]  # fmt: skip
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=base, stdout=stream, stderr=subprocess.STDOUT)
    try:
        host = Host(base, port)
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                host.get("/system_stats")
                break
            said = log.read_text("utf-8", "replace")
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.3)
        yield host
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
