"""From a sentence to a human: sculpt, paint, export, show; each stage goes on from its own checkpoint.

What a finished run leaves in its folder:

| file | what it is | the same bytes again on a CPU |
|---|---|---|
| `human.glb` | the human | yes |
| `sculpt.glb` | the sculpted surface before it was reduced and painted | yes |
| `sheet_human.png`, `turntable.webp` | eight sides, and a full turn | yes |
| `index.html` | a page that shows the GLB in a browser, offline | yes |
| `run.json` | prompt, every setting, seed, versions; facts, times and memory of the stages | all but `measured` |
| `work/` | the checkpoints of the optimisers; may be deleted when the run is done | |

"The same bytes" holds for the same prompt, settings, seed, weights, versions, precision and number of threads on one
kind of CPU, whether or not the run was killed and resumed on the way. While it lasts, `preview.png` shows the last view
drawn.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from humannorm import __version__
from humannorm.checks import InputError, reading
from humannorm.editing import asked_job, request_of_run
from humannorm.processor import waiting_policy
from humannorm.prompts import Prompts
from humannorm.request import RECORD, HumanJob, HumanRequest, pick_device
from humannorm.schedules import Schedule

if TYPE_CHECKING:
    from humannorm.guidance import StageGuides
    from humannorm.texture.multiview import MultiviewSettings
    from humannorm.texture.settings import TextureSettings
    from humannorm.texture.state import TextureState

__all__ = [
    "SAME_BYTES",
    "STAGES",
    "Progress",
    "generate",
    "is_finished",
    "make_human",
    "pose_of",
    "prompt_of",
    "refuse_started",
]

STAGES = ("sculpt", "paint", "export", "show")
SAME_BYTES = ("human.glb", "sculpt.glb", "sheet_human.png", "turntable.webp", "index.html")
"""Files of a run that a repeated or resumed one makes again to the byte."""
FORMAT = "humannorm run 1"
FIGURES_OF_NORMALS = ("disagreement_first", "disagreement_last", "forwards", "moved")
"""Of `NormalSculpture`; degrees, a count, world units. Of what was done since the run was last resumed."""
FIGURES_OF_VIEWS = ("disagreement_last", "leak", "light", "forwards")
"""Of `MultiviewPainting`; the same in a resumed run."""
SECONDS_OF_VIEWS = ("networks", "vae", "fusing", "preparing")
CHECKPOINTS: Mapping[str, tuple[str, ...]] = {"paint": ("walk.safetensors", "paint.safetensors"), "export": ()}
"""Files in `work/` of the stages that a resumed run may begin anew, because it asks something else of them."""
PREVIEW_SECONDS = 10.0  # at most this long between two previews
PACKAGES = ("torch", "numpy", "scipy", "warp-lang", "diffusers", "transformers", "fast-simplification", "pillow")
"""Whose versions can change the result."""


@dataclass(frozen=True, eq=False)
class Progress:
    """What the callback sees at the beginning of a stage and after each of its steps."""

    stage: str  # of `STAGES`
    step: int  # steps of the stage done
    steps: int
    note: str = ""  # which part of the stage, or what went wrong in this step
    losses: Mapping[str, float] = field(default_factory=dict)  # those above 0
    seconds_left: float | None = None  # of the stage


Callback = Callable[[Progress], None]


def is_finished(out: Path) -> bool:
    """Whether a folder holds a run that came to its end."""
    try:
        return set(json.loads((out / RECORD).read_text(encoding="utf-8"))["stages"]) == set(STAGES)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def prompt_of(out: Path) -> str:
    """Of the run in a folder."""
    return request_of_run(out).prompt


def pose_of(out: Path) -> str:
    """Of the start body of the run in a folder: a name in `body.POSES`, or a BVH file."""
    return request_of_run(out).pose


def generate(
    prompt: str,
    out: str | Path = "human",
    *,
    device: str = "auto",
    resume: bool = False,
    callback: Callback | None = None,
    **options: Any,
) -> dict[str, Any]:
    """From a sentence to a human in the folder `out`: what `humannorm generate PROMPT --out OUT` makes, byte for byte.

    device: "auto" takes CUDA where torch sees it. options: the other fields of `HumanRequest`, such as `seed` or
    `preset`. The rest, and what comes back, is as in `make_human`.
    """
    from humannorm.guidance import find_guides

    job, chosen = asked_job(HumanRequest(prompt, **options)), pick_device(device)
    refuse_started(Path(out), resume)
    guides = find_guides(job.request.models, chosen, precision=job.request.precision)
    return make_human(job, guides, Path(out), device=chosen, resume=resume, callback=callback)


def refuse_started(out: Path, resume: bool) -> None:
    """A folder that holds a run is refused unless it is to be gone on with; before long work."""
    if (out / RECORD).exists() and not resume:
        raise InputError(f"{out}: expected a folder without a run, or --resume to go on, got one with {RECORD}")


def make_human(
    job: HumanJob,
    guides: StageGuides,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Make one human in a folder; the record that `run.json` holds.

    resume: go on with the run in the folder, if there is one. It must have the same request in all that its finished
    stages read: another number of faces is fine as long as nothing was unwrapped. Without it a folder with a run is
    refused. An exception from the callback or anywhere else (KeyboardInterrupt, a kill) leaves
    files that a resumed run goes on from; it loses at most a minute.
    """
    for modality in ("normal", "color"):
        Prompts(job.request.prompt, modality)  # refuses what cannot be a prompt
    run = _Run(job, guides, out, torch.device(device), callback or (lambda progress: None), resume)
    for name, stage in zip(STAGES, (run.sculpt, run.paint, run.export, run.show), strict=True):
        if name not in run.record.stages:
            with run.record.measure(name):
                facts = stage()
            run.record.finish(name, facts)
    run.preview_file.unlink(missing_ok=True)
    return run.record.to_dict()


class _Run:
    """One call of `make_human`."""

    def __init__(
        self,
        job: HumanJob,
        guides: StageGuides,
        out: Path,
        device: torch.device,
        callback: Callback,
        resume: bool,
    ) -> None:
        from humannorm.stages import place_start

        self.job, self.guides, self.device, self.callback = job, guides, device, callback
        self.out, self.work = out, out / "work"
        self.start = place_start(job.start, job.body, device)
        self.record = _Record(out, _request(job, device, guides.precision), resume)
        for stage in self.record.begun_anew:
            for name in CHECKPOINTS.get(stage, ()):
                (self.work / name).unlink(missing_ok=True)
        self.preview_file = out / "preview.png"
        self._previewed = time.monotonic()
        for leftover in out.glob(".*.partial"):  # of a process that was killed while it wrote
            leftover.unlink(missing_ok=True)

    def sculpt(self) -> dict[str, Any]:
        """From the start body to the prompt's, and its surface as a file: by equation 6 and 7, or by sampled views."""
        from humannorm.geometry.state import load_state, save_state
        from humannorm.optimisation import OptimiserProgress
        from humannorm.stages import as_it_is, begin_sculpture_of, sculpt_on, write_sculpture

        job, settings, checkpoint = self.job, self.job.settings.geometry, self.work / "sculpt.safetensors"
        generator = torch.Generator().manual_seed(job.request.seed)

        def tell(progress: OptimiserProgress) -> None:
            self._tell("sculpt", progress, progress.rejected or "")
            self._preview(progress.picture)

        views = job.settings.views
        steps = settings.steps if views is None else views.steps
        self.callback(Progress("sculpt", 0, steps, "start body"))
        if checkpoint.exists():
            state = load_state(checkpoint, generator, self.device)
        else:
            state = begin_sculpture_of(job, self.start, generator).state
        if as_it_is(state, job):
            save_state(state, checkpoint, generator)
        elif state.step < steps:
            state, figures = sculpt_on(
                state,
                job.network_prompt,
                settings,
                views,
                self.guides,
                generator,
                callback=tell,
                checkpoint=checkpoint,
            )
            if views is not None:
                self._measured_sculpting(figures)
        surface = write_sculpture(self.out / "sculpt.glb", state)
        return {"faces": surface.mesh.num_faces, "pieces": surface.pieces, "pieces_dropped": surface.dropped}

    def _measured_sculpting(self, figures: Mapping[str, float]) -> None:
        """What sampling all views together says of itself, for the record."""
        digits = {name: 4 if name in FIGURES_OF_NORMALS else 1 for name in figures}
        self.record.measured["sculpting"] = {name: round(value, digits[name]) for name, value in figures.items()}

    def paint(self) -> dict[str, Any]:
        """Colour on the sculpted surface, which stays as it is: by sampling all views together, or by distillation."""
        from humannorm.texture.multiview import MultiviewSettings

        settings = self.job.settings.texture
        return self._sample_views(settings) if isinstance(settings, MultiviewSettings) else self._distil(settings)

    def _sample_views(self, settings: MultiviewSettings) -> dict[str, Any]:
        """All views at once, agreeing on the texels of the surface that is exported."""
        from humannorm.geometry.state import load_state
        from humannorm.stages import paint_views_of
        from humannorm.texture.multiview import MultiviewProgress
        from humannorm.texture.state import save_state

        job = self.job

        def tell(progress: MultiviewProgress) -> None:
            note = f"batch {progress.walk.batch} of {progress.walk.batches}" if progress.walk.batch else ""
            self.callback(Progress("paint", progress.step, progress.steps, note, {}, progress.seconds_left))
            self._preview(progress.picture)

        self.callback(Progress("paint", 0, settings.walk.steps, "networks"))
        sculpted = load_state(self.work / "sculpt.safetensors", device=self.device)
        painting = paint_views_of(
            job, sculpted, self.guides.aligned(), callback=tell, checkpoint=self.work / "walk.safetensors"
        )
        save_state(painting.state, self.work / "paint.safetensors")
        seconds = {name: round(painting.figures[name], 1) for name in SECONDS_OF_VIEWS}
        self.record.measured["painting_seconds"] = seconds
        same = {name: round(value, 4) for name, value in painting.figures.items() if name in FIGURES_OF_VIEWS}
        return {"faces": painting.mesh.num_faces, **same}

    def _distil(self, settings: TextureSettings) -> dict[str, Any]:
        """Equation 9 and 10."""
        from humannorm.geometry.state import extract_mesh
        from humannorm.geometry.state import load_state as load_sculpted
        from humannorm.optimisation import OptimiserProgress
        from humannorm.stages import begin_painting
        from humannorm.texture.paint import paint
        from humannorm.texture.perceptual import make_perceptual
        from humannorm.texture.state import load_state

        job, checkpoint = self.job, self.work / "paint.safetensors"
        generator = torch.Generator().manual_seed(job.request.seed)

        def tell(progress: OptimiserProgress) -> None:
            self._tell("paint", progress, progress.rejected or progress.stage)
            self._preview(progress.picture)

        self.callback(Progress("paint", 0, settings.steps, "networks"))
        if checkpoint.exists():
            state = load_state(checkpoint, generator, self.device)
        else:
            sculpted = load_sculpted(self.work / "sculpt.safetensors", device=self.device)
            mesh = extract_mesh(sculpted).mesh
            state = begin_painting(mesh, settings, job.request.seed, hold=sculpted.hold, skin=job.skin)
        if state.step < settings.steps:
            guide = self.guides.aligned()
            state = paint(
                state,
                job.network_prompt,
                settings,
                guide=guide,
                perceptual=make_perceptual(job.settings.perceptual, guide),
                generator=generator,
                callback=tell,
                checkpoint=checkpoint,
            )
        return {"faces": state.mesh.num_faces}

    def export(self) -> dict[str, Any]:
        """The painted surface as one GLB, reduced where it has too many faces; holes and specks are counted."""
        from humannorm.export import export_mesh
        from humannorm.mesh import is_watertight
        from humannorm.stages import painted_surface, worth_baking
        from humannorm.texture.multiview import MultiviewSettings
        from humannorm.texture.state import load_state

        state = load_state(self.work / "paint.safetensors", device=self.device)
        if isinstance(self.job.settings.texture, MultiviewSettings):
            return self._export_painted(state)
        self.callback(Progress("export", 0, 100, "unseen places"))
        painted = painted_surface(state)
        settings, request = worth_baking(self.job.settings.export, painted.mesh), self.job.request
        export_mesh(
            self.out / "human.glb",
            painted.mesh,
            settings,
            field=painted.field,
            extras={"prompt": request.prompt, "seed": str(request.seed)},
            overwrite=True,
            progress=lambda step, share: self.callback(Progress("export", round(100 * share), 100, step)),
        )
        return {
            "closed": is_watertight(painted.mesh.faces),
            "unseen_vertices": int((~painted.colors.seen).sum()),
            "vertices": painted.mesh.num_vertices,
            "normal_map": settings.normal_map,
        }

    def _export_painted(self, state: TextureState) -> dict[str, Any]:
        """A surface whose atlas was painted: its texture is written as it is."""
        from humannorm.export import with_maps, with_materials, write_baked
        from humannorm.geometry.state import extract_mesh
        from humannorm.geometry.state import load_state as load_sculpted
        from humannorm.mesh import is_watertight, weld
        from humannorm.stages import textured_mesh, worth_baking

        self.callback(Progress("export", 0, 100, "maps"))
        mesh, request = textured_mesh(state), self.job.request
        sculpture = load_sculpted(self.work / "sculpt.safetensors", device=self.device)
        sculpted = extract_mesh(sculpture).mesh
        settings = worth_baking(self.job.settings.export, sculpted, state.folds is not None)
        baked = with_maps(mesh, settings, sculpted if settings.normal_map else None, slopes=state.folds)
        baked = with_materials(baked, state.labels, state.materials)
        if sculpture.labelled is not None:
            baked = dataclasses.replace(baked, labels=sculpture.labelled.labels_at(state.mesh.vertices))
        extras = {"prompt": request.prompt, "seed": str(request.seed)}
        write_baked(self.out / "human.glb", baked, extras=extras, overwrite=True)
        self.callback(Progress("export", 100, 100, "done"))
        return {
            "closed": is_watertight(weld(mesh.vertices)[mesh.faces]),
            "vertices": mesh.num_vertices,
            "normal_map": settings.normal_map,
        }

    def show(self) -> dict[str, Any]:
        """Pictures and page of what stands in the file."""
        from humannorm.export import load_baked, slopes_on
        from humannorm.export.page import write_page
        from humannorm.export.showing import save_film, save_sides
        from humannorm.working_box import to_working_box

        self.callback(Progress("show", 0, 3, "sides"))
        baked = load_baked(self.out / "human.glb")
        mesh, slopes = to_working_box(baked.mesh.to(self.device)), slopes_on(baked)
        slopes = None if slopes is None else slopes.to(self.device)
        save_sides(self.out / "sheet_human.png", mesh, slopes=slopes)
        self.callback(Progress("show", 1, 3, "film"))
        save_film(self.out / "turntable.webp", mesh, slopes=slopes)
        self.callback(Progress("show", 2, 3, "page"))
        details = f"{mesh.num_faces:,} faces. Made by humannorm {__version__}, seed {self.job.request.seed}."
        write_page(self.out / "index.html", self.out / "human.glb", self.job.request.prompt, details)
        self.callback(Progress("show", 3, 3))
        return {"faces": mesh.num_faces, "bytes": (self.out / "human.glb").stat().st_size}

    def _tell(self, stage: str, progress: Any, note: str) -> None:
        losses = {name: value for name, value in progress.losses.items() if value}
        self.callback(Progress(stage, progress.step, progress.steps, note, losses, progress.seconds_left))

    def _preview(self, picture: Tensor) -> None:
        from humannorm.images import save_png

        if time.monotonic() - self._previewed > PREVIEW_SECONDS:
            self._previewed = time.monotonic()
            save_png(self.preview_file, picture.cpu())


class _Record:
    """`run.json`: the request, and what the stages that are done report. Written whole after each."""

    def __init__(self, out: Path, request: dict[str, Any], resume: bool) -> None:
        self.path = out / RECORD
        self.request = request
        self.stages: dict[str, Any] = {}
        self.begun_anew: tuple[str, ...] = ()  # unfinished stages of which something else is asked now
        self.measured: dict[str, Any] = {
            "seconds": {},
            "resumed": 0,
            "threads": torch.get_num_threads(),
            "waiting": waiting_policy(),
        }
        if self.path.exists():
            refuse_started(out, resume)
            with reading(self.path, "the record of a run"):
                self._take_over(self._read())
        elif out.exists() and not out.is_dir():
            raise InputError(f"{out}: expected a folder, got a file")
        self._write()

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{self.path}: expected the record of a run, got a broken file ({error})") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InputError(f"{self.path}: expected a record of the format {FORMAT!r}, got another file")
        return found

    def _take_over(self, found: dict[str, Any]) -> None:
        request = json.loads(json.dumps(self.request))
        before = {name: found["request"].get(name) for name in request["request"]}
        changed = list(_differences("", before, request["request"]))
        readers = [_first_reader(name, request["request"]) for name, _, _ in changed]
        for reader, difference in zip(readers, changed, strict=True):
            later = STAGES[STAGES.index(reader) :]
            if reader not in CHECKPOINTS or set(later) & set(found["stages"]):
                said = _in_words(*difference)
                raise InputError(f"{self.path}: expected to resume what was begun, got another {said}")
        if readers:
            self.begun_anew = STAGES[min(map(STAGES.index, readers)) :]
        for difference in _differences("versions.", found["versions"], request["versions"]):
            said = _in_words(*difference)
            warnings.warn(f"{self.path}: resumed with other {said}; the result may differ", stacklevel=2)
            break
        self.stages, self.measured = found["stages"], found["measured"]
        self.measured["resumed"] += 1
        # Another number of threads would add in another order, and end in other last digits.
        torch.set_num_threads(self.measured["threads"])

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """The time of a stage, of the process that ended it."""
        begin = time.monotonic()
        yield
        self.measured["seconds"][stage] = round(time.monotonic() - begin, 1)

    def finish(self, stage: str, facts: dict[str, Any]) -> None:
        self.stages[stage] = facts
        self.measured["peak_memory_gb"] = _peak_memory()
        self._write()

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **self.request, "stages": self.stages, "measured": self.measured}

    def _write(self) -> None:
        from humannorm.files import write_files

        text = json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"
        write_files({self.path: text.encode("utf-8")})


def _request(job: HumanJob, device: torch.device, precision: str) -> dict[str, Any]:
    """What was asked for, as plain values, and the versions that it is made with."""
    start = hashlib.sha256()
    for tensor in (job.start.vertices, job.start.faces):
        start.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return {
        "request": {
            **{name: _plain(value) for name, value in vars(job.request).items()},
            "network_prompt": job.network_prompt,
            "painted_skin": job.skin,
            "worn": str(job.outfit),
            "device": device.type,
            "precision": precision,  # what "auto" came to
            "start_sha256": start.hexdigest(),
            "settings": _plain(job.settings),
        },
        "versions": {"humannorm": __version__, "python": platform.python_version(), **_package_versions()},
    }


def _plain(value: Any) -> Any:
    """Settings as JSON knows them; a schedule is its list of points."""
    if isinstance(value, Schedule):
        return value.to_list()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "none"
    return versions


def _differences(path: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Where two records differ: dotted names, such as settings.geometry.steps, with both values."""
    for key in [*now, *(key for key in before if key not in now)]:
        one, two = before.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(two, dict):
            yield from _differences(f"{path}{key}.", one, two)
        elif one != two:
            yield f"{path}{key}", one, two


def _in_words(name: str, before: Any, now: Any) -> str:
    return f"{name} ({before!r} before, {now!r} now)"


def _first_reader(name: str, request: Mapping[str, Any]) -> str:
    """The first stage that reads a value of the request, by its dotted name. All that is not listed is the sculpture's.

    Where all views are painted together, they are painted on the atlas that is exported.
    """
    if name in ("height_m", "settings.export.height_m"):
        return "export"
    if name in ("faces", "texture_size") or name.startswith("settings.export."):
        return "paint" if "walk" in request["settings"]["texture"] else "export"
    if name in ("paint_steps", "skin", "painted_skin") or name.startswith(("settings.texture.", "settings.perceptual")):
        return "paint"
    return "sculpt"


def _peak_memory() -> float | None:
    """Peak resident memory of this process, in GB of 2^30 bytes; None where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="ignore")
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return round(int(lines[0].split()[1]) / 2**20, 2) if lines else None
