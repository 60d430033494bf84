"""The harness of the benchmarks, and that our own candidates run (peers are installed by the extra `bench` only)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import harness, threads
from benchmarks.__main__ import main
from benchmarks.harness import Timings
from benchmarks.human import human, query_points, subdivided
from benchmarks.random_networks import parameter_count, random_sd15
from benchmarks.rendering_peers import PEERS, humannorm, scene
from humannorm.distance.signed_distance import SignedDistance
from humannorm.mesh import Mesh, is_watertight, mesh_volume


def test_candidates_take_turns_and_the_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    results = harness.measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert len(results["a"].seconds) == len(results["b"].processor_seconds) == 3


def test_ratios_are_taken_pair_by_pair() -> None:
    ours, peer = Timings((1.0, 2.0, 4.0), (1.0,) * 3), Timings((3.0, 4.0, 20.0), (1.0,) * 3)
    assert harness.ratios(peer, ours) == (3.0, 2.0, 5.0)


def test_table_rows_are_sorted_and_name_median_and_spread() -> None:
    results = {"slow": Timings((0.2, 0.4, 0.3), (0.5, 0.6, 0.7)), "ours": Timings((0.1, 0.2, 0.1), (0.1, 0.1, 0.1))}
    rows = harness.timing_rows(results, "ours")
    assert rows == [
        ["ours", "100.0", "100.0 - 200.0", "1", "100.0"],
        ["slow", "300.0", "200.0 - 400.0", "2.00 (2.00 - 3.00)", "600.0"],
    ]
    lines = harness.table(["who", "ms", "spread", "ratio", "CPU"], rows).splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines) == 4


@pytest.mark.slow
def test_a_peer_that_cannot_run_is_told_with_its_reason() -> None:
    reason = harness.trial("benchmarks.rendering_peers", "no such peer")
    assert reason is not None and "KeyError" in reason
    assert harness.version("no-such-package") == "not installed"


def test_machine_line_tells_threads_and_versions() -> None:
    line = harness.machine(3, ["torch"])
    assert f"torch {torch.__version__}" in line and "3 threads" in line


def test_subdivision_keeps_the_surface_closed_and_its_volume() -> None:
    mesh = human(0)
    fine = subdivided(mesh)
    assert fine.num_faces == 4 * mesh.num_faces and is_watertight(fine.faces)
    torch.testing.assert_close(mesh_volume(fine.vertices, fine.faces), mesh_volume(mesh.vertices, mesh.faces))


def test_query_points_lie_where_they_are_said_to(generator: torch.Generator) -> None:
    mesh = human(0)
    inside = query_points(mesh, 500, "box", generator)
    assert (inside >= mesh.vertices.amin(0)).all() and (inside <= mesh.vertices.amax(0)).all()
    distance = SignedDistance(mesh.vertices, mesh.faces)(query_points(mesh, 500, "surface", generator))
    assert distance.abs().max() < 0.06 and 0.001 < distance.abs().mean() < 0.012


def test_our_renderer_meets_the_job(generator: torch.Generator) -> None:
    given = scene(0, 64)
    renderer = humannorm(given)
    image = renderer.forward()
    assert image.shape == (64, 64, 3) and 0.05 < (image.any(-1)).mean() < 0.5
    assert renderer.backward is not None
    gradient = renderer.backward()
    assert gradient.shape == (given.mesh.num_vertices, 3) and np.isfinite(gradient).all() and gradient.any()


@pytest.mark.parametrize("name", PEERS)
def test_installed_peers_draw_the_same_picture(name: str) -> None:
    package, build = PEERS[name]
    if harness.version(package) == "not installed" or harness.trial("benchmarks.rendering_peers", name):
        pytest.skip(f"{name} does not run here; its benchmark tells why")
    given = scene(0, 64)
    assert np.abs(build(given).forward() - humannorm(given).forward()).mean() < 0.06


@pytest.mark.slow
def test_random_networks_have_the_published_size_and_a_tokenizer_that_can_be_saved(tmp_path: Path) -> None:
    parts = random_sd15("meta")
    assert parameter_count(parts["unet"]) == 859_520_964 and parameter_count(parts["vae"]) == 83_653_863
    assert parameter_count(parts["text_encoder"]) == 123_060_480
    parts["tokenizer"].save_pretrained(tmp_path)
    assert type(parts["tokenizer"]).from_pretrained(tmp_path)("a red t-shirt") == parts["tokenizer"]("a red t-shirt")


def test_command_line_knows_its_benchmarks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "nothing"])
    with pytest.raises(SystemExit, match="2"):
        main()
    complaint = capsys.readouterr().err
    assert "invalid choice" in complaint and "signed_distance" in complaint


def test_threads_are_compared_with_their_aims() -> None:
    def parts(seconds: float, share: float) -> dict[str, threads.Measured]:
        return {part: threads.Measured(seconds, share * seconds) for part in threads.PARTS}

    late = b'{"part": "start", "seconds": 80.0, "processor_seconds": 2.0}\nnot a part\n'
    results = {
        "1, idle": parts(10.0, 1.0),
        "all, idle": parts(6.0, 2.0),
        "1, busy": parts(20.0, 0.5),
        "all, busy": parts(24.0, 0.5),
        "all spinning, busy": threads.measured_in(late),
    }
    shown = threads.comparison(results, 2).splitlines()
    assert shown[2].split("|")[1:6] == [" part   ", " 1, idle     ", " 2, idle     ", " 1, busy     ", " 2, busy     "]
    assert "80.0 (2.0)" in shown[4] and "not in time" in shown[5] and "30.0 (30.0)" in shown[-1]
    said = "\n".join(threads.verdicts(results))
    assert "over one, idle: 0.60 (aim: at most 0.65, met)" in said and "idle: 4.00 (aim: at most 3.5, MISSED)" in said
    assert "spin: more than 8.3" in said and "Not idle" not in said
    assert "Not idle: one thread alone got 60%" in threads.verdicts({"1, idle": parts(10.0, 0.6)})[-1]


def test_mesh_of_the_benchmark_is_the_library_s_body() -> None:
    assert isinstance(human(0), Mesh) and human(0).num_faces == 26756
