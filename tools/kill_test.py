"""Kills a verb of the command at random moments, runs it again, and compares what comes out with an unbroken run.

    python tools/kill_test.py --kills 20 --out DIR -- generate "a man in a suit" --paint-steps 2
    python tools/kill_test.py --kills 20 --out DIR -- train normal --base bundled --data people --steps 20 --lora 4

What stands after `--` is the command but --out and what makes it go on. After every kill each result that is there must
be whole, which is to say the unbroken run's; a run that ends before it is killed must have made the same bytes, and a
new one is begun. Exit status 1 if anything differs. DIR is made, and must not exist.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from humannorm.pipeline import SAME_BYTES, is_finished


@dataclass(frozen=True)
class Verb:
    """What a verb leaves, and how it is asked again."""

    results: tuple[str, ...]
    """Patterns of the files that are the same bytes in every run, and must be there in the end."""
    again: tuple[str, ...]
    """Words that make it go on with what is there, or begin anew where it does not keep its work."""


VERBS = {
    "generate": Verb(SAME_BYTES, ("--resume",)),
    "sculpt": Verb(("sculpt.glb", "sheet_sculpt.png", "turntable.webp"), ("--resume",)),
    "paint": Verb(("paint.glb", "paint.ply", "sheet_paint.png", "texture*.png", "sheet_views*.png"), ("--resume",)),
    "export": Verb(("*.glb", "*.obj", "*.mtl", "*.ply", "*.png"), ("--overwrite",)),
    "animate": Verb(("animated.glb", "film_*.webp", "sheet_*.png"), ("--overwrite",)),
    "train": Verb(("model/**/*.safetensors", "*.safetensors"), ()),
}

# The command itself, but with another time between two checkpoints.
PROGRAM = """
import sys
import humannorm.optimisation
from humannorm.cli import main
humannorm.optimisation.CHECKPOINT_SECONDS = float(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--checkpoint-seconds", type=float, default=2.0, help="between two checkpoints of a stage")
    parser.add_argument("--program", type=Path, metavar="FILE", help="Python that stands for the command itself")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("words", nargs="+", metavar="WORD", help=f"the command: {', '.join(VERBS)} and its words")
    args = parser.parse_args()
    if args.words[0] not in VERBS:
        parser.error(f"expected a verb ({', '.join(VERBS)}), got {args.words[0]!r}")
    verb = VERBS[args.words[0]]
    args.out.mkdir(parents=True)
    moments = random.Random(args.seed)
    program = PROGRAM if args.program is None else args.program.read_text("utf-8")

    def start(folder: Path) -> subprocess.Popen[bytes]:
        words = [*args.words, *verb.again, "--out", str(folder)]
        with (args.out / f"{folder.name}.log").open("ab") as log:
            command = [sys.executable, "-c", program, str(args.checkpoint_seconds), *words]
            return subprocess.Popen(command, stdout=log, stderr=log)

    begin = time.monotonic()
    whole = args.out / "unbroken"
    if start(whole).wait() != 0:
        print(f"the unbroken run failed: see {whole}.log")
        return 1
    if not results(verb, whole):
        print(f"the unbroken run left none of {', '.join(verb.results)} in {whole}")
        return 1
    length = time.monotonic() - begin
    print(f"unbroken: {length:.0f} s", flush=True)
    kills, run, faults = 0, 1, 0
    while kills < args.kills:
        folder = args.out / f"killed_{run:02d}"
        fresh, begin = not folder.exists(), time.monotonic()
        process = start(folder)
        try:
            process.wait(moments.uniform(0, length))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            broken = differing(verb, whole, folder)
            faults += len(broken)
            print(f"kill {kills}: {stage_of(folder)}: {', '.join(broken) or 'all files whole'}", flush=True)
        else:
            faults += report(verb, whole, folder, process.returncode)
            run += 1
            if fresh:  # a machine that was busy before would otherwise see hardly any kill in time
                length = min(length, time.monotonic() - begin)
    folder = args.out / f"killed_{run:02d}"
    faults += report(verb, whole, folder, start(folder).wait())
    print(f"{kills} kills, {run} runs, {faults} files that differ")
    return int(faults > 0)


def report(verb: Verb, whole: Path, folder: Path, status: int) -> int:
    """How a run that ended compares; the number of its faults."""
    wrong = differing(verb, whole, folder)
    wrong += [f"{name} is not there" for name in sorted(results(verb, whole) - results(verb, folder))]
    if status != 0 or (verb is VERBS["generate"] and not is_finished(folder)):
        wrong.append(f"status {status}, see {folder}.log")
    elif verb is VERBS["generate"] and facts(folder) != facts(whole):
        wrong.append("run.json")
    print(f"{folder.name} ended: {', '.join(wrong) or 'the same bytes'}", flush=True)
    return len(wrong)


def results(verb: Verb, folder: Path) -> set[str]:
    """The results that are there. What is being written bears another name until it is whole."""
    found = {path for pattern in verb.results for path in folder.glob(pattern) if path.is_file()}
    return {path.relative_to(folder).as_posix() for path in found}


def differing(verb: Verb, whole: Path, folder: Path) -> list[str]:
    """Results that are there and are not the unbroken run's."""
    there = sorted(results(verb, folder))
    return [
        name
        for name in there
        if not (whole / name).exists() or (folder / name).read_bytes() != (whole / name).read_bytes()
    ]


def facts(folder: Path) -> object:
    """The record of a run without its times."""
    return {**json.loads((folder / "run.json").read_text("utf-8")), "measured": None}


def stage_of(folder: Path) -> str:
    """How far a killed run had come; reading its record fails if that is broken."""
    record = folder / "run.json"
    if not record.exists():
        files = [path.name for path in folder.iterdir()] if folder.exists() else []
        return f"with {', '.join(sorted(files)) or 'no file'}"
    done = list(json.loads(record.read_text("utf-8"))["stages"])
    checkpoints = [path.stem for path in (folder / "work").glob("*.safetensors")]
    return f"done {', '.join(done) or 'nothing'}, checkpoints {', '.join(sorted(checkpoints)) or 'none'}"


if __name__ == "__main__":
    sys.exit(main())
