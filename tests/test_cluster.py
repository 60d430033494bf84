"""Prompts on a Ray cluster: what comes back is what one machine makes."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from humannorm.checks import InputError
from humannorm.guidance import find_guides
from humannorm.pipeline import SAME_BYTES, is_finished, make_human
from humannorm.request import HumanRequest, HumanSettings, job_of

os.environ.setdefault("RAY_raylet_start_wait_time_s", "240")  # read when Ray is imported; its 60 are short when busy
ray = pytest.importorskip("ray", reason="needs the extra humannorm[ray]")
CPU = torch.device("cpu")
PROMPTS = ("a man in a suit", "a woman in a dress")


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on now."""
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cluster of two workers on this machine, each with room for one job at a time."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")

    def node() -> dict[str, int]:
        # Ray gives its agents 15 s to name ports of their own choice, which is short on a busy machine.
        agents = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
        ports = dict(zip(agents, free_ports(len(agents)), strict=True))
        return {"num_cpus": torch.get_num_threads(), "object_store_memory": 100 * 2**20, **ports}

    cluster = Cluster()
    try:
        cluster.add_node(**node(), include_dashboard=False)
        cluster.add_node(**node())
    except Exception as error:  # Ray's own, of a machine too busy or too closed for its processes
        cluster.shutdown()
        pytest.skip(f"Ray starts no cluster here: {error}")
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.mark.slow
def test_two_workers_make_what_one_machine_makes(
    address: str,
    tiny_sd: Callable[[str], Path],
    tiny_human: HumanSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from humannorm.cluster import make_humans

    monkeypatch.setattr("humannorm.export.showing.FILM_FRAMES", 36)  # the workers', which no fixture reaches
    models = str(tiny_sd("epsilon"))
    request = HumanRequest("a man in a suit", models=models, body="neutral")
    good, woman = (job_of(dataclasses.replace(request, prompt=prompt), tiny_human) for prompt in PROMPTS)
    sheet = dataclasses.replace(good, start=good.start.replace(faces=good.start.faces[:20]))
    jobs = {tmp_path / "man": good, tmp_path / "sheet": sheet, tmp_path / "woman": woman}
    outcomes = {outcome.index: outcome.error for outcome in make_humans(address, jobs, device=CPU)}
    assert outcomes[0] is None and outcomes[2] is None
    assert outcomes[1] is not None and "mesh: expected" in outcomes[1]
    assert is_finished(tmp_path / "man") and is_finished(tmp_path / "woman") and not (tmp_path / "sheet").exists()
    make_human(good, find_guides(models, CPU), tmp_path / "here")
    for name in SAME_BYTES:
        assert (tmp_path / "man" / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name
    assert (tmp_path / "woman" / "human.glb").read_bytes() != (tmp_path / "man" / "human.glb").read_bytes()


def test_no_cluster_is_one_sentence(tiny_human: HumanSettings, tmp_path: Path) -> None:
    from humannorm.cluster import make_humans

    job = job_of(HumanRequest("a man", body="neutral"), tiny_human)
    with pytest.raises(InputError, match="--ray: expected the address of a running Ray cluster, got '127.0.0.1:1'"):
        list(make_humans("127.0.0.1:1", {tmp_path / "man": job}, device=CPU))
