"""The command line: ``humannorm VERB ...``, one module of `humannorm.commands` per verb, imported when it is called.

Exit status 0 means that all that was requested exists, 1 an error (one sentence on standard error; with ``--debug`` the
traceback), 2 a wrong call, 130 an interruption.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from types import ModuleType

from humannorm import __version__
from humannorm.processor import prepare_threads

__all__ = ["VERBS", "main"]

# Listed by hand, in the order of the work; each is a module humannorm/commands/<verb>.py.
VERBS: Mapping[str, str] = {
    "generate": "make a human from a sentence: sculpt, paint and export in one go",
    "sample": "draw pictures from the normal, depth or colour model",
    "sculpt": "shape a surface from a sentence",
    "paint": "texture a sculpted surface",
    "export": "write a human as GLB, OBJ or PLY",
    "animate": "pose or move a human",
    "render": "draw normal, depth, mask and colour pictures of a mesh",
    "dataset": "render dressed people or your own scans as training data",
    "train": "fine-tune the models on renders of people",
    "evaluate": "judge what the models draw",
}
FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a disk, or a person's share of it, that takes no more."""


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults stand behind the help, where they say something and the help does not say them itself."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is None or action.default is False or action.default in ("", [])
        silent = silent or "default" in (action.help or "")
        return action.help if silent else super()._get_help_string(action)


def build_parser(verb: str | None) -> argparse.ArgumentParser:
    """The parser of the whole command; only `verb` gets its options, so that only its module is imported."""
    parser = argparse.ArgumentParser(
        prog="humannorm",
        description="From a sentence to a dressed, textured, rigged 3D human.",
        epilog="`humannorm VERB --help` explains the options of a verb.",
    )
    parser.add_argument("--version", action="version", version=f"humannorm {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, title="verbs")
    for name, summary in VERBS.items():
        chosen = verbs.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=_HelpFormatter,
        )
        if name == verb:
            _command(name).add_arguments(chosen)
        chosen.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit status."""
    prepare_threads()
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        words = ["--help"]
    verb = words[0] if words[0] in VERBS else None
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        goes_on = ""
        try:
            args = build_parser(verb).parse_args(words)
            if hasattr(args, "resume"):
                goes_on = "; the same command with --resume goes on"
            status = _command(args.verb).run(args)
        except KeyboardInterrupt:
            sys.stderr.write(f"humannorm: interrupted{goes_on}\n")
            return 130
        except Exception as error:
            if "--debug" in words or not _is_for_the_user(error):
                raise
            sys.stderr.write(f"humannorm: {_sentence(error, goes_on)}\n")
            return 1
    return 0 if status is None else int(status)


def _command(verb: str) -> ModuleType:
    """The verb's module, which has add_arguments(parser) and run(args)."""
    return importlib.import_module(f"humannorm.commands.{verb}")


def _is_for_the_user(error: Exception) -> bool:
    """Whether the message says all: wrong input, a file or a missing optional package. The rest are faults of ours."""
    from humannorm.checks import InputError

    return isinstance(error, (InputError, OSError, ImportError))


def _sentence(error: Exception, goes_on: str) -> str:
    """The error in words; the system's own come as "file: what is wrong with it". goes_on: how work is not lost."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        said = f"{error.filename}: {error.strerror.lower()}"
        return f"{said}; make room there{goes_on}" if error.errno in FULL else said
    return str(error)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    sys.stderr.write(f"humannorm: warning: {message}\n")
