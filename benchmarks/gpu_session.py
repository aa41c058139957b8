"""Everything that is to be known of a machine with a GPU, in one run of at most nine minutes: right numbers, and times.

    python benchmarks/gpu_session.py --out results        # on a machine with a GPU and without a network
    python benchmarks/gpu_session.py --device cpu --quick # its logic, where there is no GPU
    python benchmarks/gpu_session.py --collect results    # afterwards, in a clone: the tables to where they belong

What to carry there: the repository as it is, without .git, results and data. Nothing is installed; needed are Python
3.11–3.13 with torch, pytorch-lightning, torchmetrics, PyYAML, tqdm and pytest, and for the compiled kernels cuda-core
with cuda-bindings and NVRTC; triton, compute-sanitizer and g++ are used where they are there. Neither hydra nor mlflow
nor datasets is imported, nor pandas, numba or matplotlib needed.

Each part runs in a process of its own with a time limit of its own, and goes on where another one fails; the whole ends
within --limit. The output folder then has table.md, rows.csv, log.txt and, as one archive, what --collect takes: the
benchmark's tables, and the outcomes of the experiment's runs with the machine that made them. The exit code is 1 where
numbers do not agree, or a part failed or had to be stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 540.0  # seconds that the whole takes at most
FAREWELL = 2.0  # seconds between asking a part to end and ending it
LAST = 5.0  # seconds that are kept for the table
ARCHIVE = "collected.tar.gz"


@dataclass(frozen=True)
class Part:
    """What runs in a process of its own: its module, its seconds of LIMIT, and what else the module is told.

    A part with `tool` runs under that program, and is left out where it is not there; `variables` join the environment.
    """

    name: str
    module: str
    seconds: float
    more: tuple[str, ...] = ()
    tool: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Row:
    """One number: what it is of, and whether it is right; None where nothing can be wrong."""

    part: str
    case: str
    value: str = ""
    ok: bool | None = None
    note: str = ""


@dataclass
class Done:
    """What became of a part."""

    part: Part
    status: str
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        """Whether a number does not agree, or the part did not come to its end."""
        return self.status not in ("done", "not run") or any(row.ok is False for row in self.rows)


def parts(device: str) -> list[Part]:
    """In the order in which they run: what is short and decides most comes first, what takes all that is left last."""
    on_cpu = [_part("sanitizer", "sanitized", 100, "16", "33", "128")]
    on_gpu = [
        _sanitizer("memcheck", 50, "16", "33", "128"),
        _sanitizer("racecheck", 30, "16", "33"),
        _sanitizer("synccheck", 20, "16"),
    ]
    return [
        _part("versions", "versions", 15),
        _part("compiling", "compiling", 30),
        _part("verdicts", "verdicts", 35, "16", "33", "128"),
        _part("bits", "bits", 30),
        *(on_cpu if device == "cpu" else on_gpu),
        _part("training", "training", 45),
        _part("tiles", "tiles", 40),
        *(_part(name, "sections", 20, name) for name in ("packing", "instrumented", "exactness", "floor")),
        _part("tests", "tests", 80),
        _part("forgetting", "forgetting", 60),
    ]


def _part(name: str, module: str, seconds: float, *more: str) -> Part:
    return Part(name, f"benchmarks.parts.{module}", seconds, more)


def _sanitizer(tool: str, seconds: float, *hidden: str) -> Part:
    """torch's allocator is told to keep nothing: in its large blocks an access beyond a tensor would go unseen."""
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]
    if tool == "memcheck":  # what torch tries and does without is no fault of a kernel
        command += ["--report-api-errors", "no"]
    alone = (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),)
    return Part(f"sanitizer {tool}", "benchmarks.parts.verdicts", seconds, hidden, tuple(command), alone)


def main(arguments: Sequence[str]) -> int:
    """Run the parts; 1 where anything is wrong."""
    args = _parser().parse_args(arguments)
    if args.collect:
        return _collect(Path(args.collect))
    started, out = time.monotonic(), Path(args.out).resolve()
    (out / "parts").mkdir(parents=True, exist_ok=True)
    chosen = [part for part in parts(args.device) if not args.only or part.name.split()[0] in args.only.split(",")]
    found = []
    with (out / "log.txt").open("w", encoding="utf-8") as log:
        for index, part in enumerate(chosen):
            left = args.limit - (time.monotonic() - started) - LAST
            last = index == len(chosen) - 1
            share = left if last else min(left, part.seconds * args.limit / LIMIT)
            found.append(_run(part, share, args, out, log))
            print(_line(found[-1]), flush=True)
            _write(out, found, time.monotonic() - started)
    _pack(out)
    print("\n" + (out / "table.md").read_text(encoding="utf-8"))
    return int(any(done.wrong for done in found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gpu_session.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="what to run on (cuda)")
    parser.add_argument("--quick", action="store_true", help="a look at everything, at small sizes")
    parser.add_argument("--limit", type=float, default=LIMIT, help=f"seconds that the whole takes at most ({LIMIT:g})")
    parser.add_argument("--only", metavar="a,b", default="", help="some parts only")
    parser.add_argument(
        "--out", default=os.environ.get("OUT") or "outputs/gpu_session", help="the folder of what is found"
    )
    parser.add_argument("--resume", metavar="FOLDER", default="", help="the runs in this folder are not trained again")
    parser.add_argument("--collect", metavar="FOLDER", default="", help="take over what such a run has left, and end")
    return parser


def _run(part: Part, seconds: float, args: argparse.Namespace, out: Path, log: Any) -> Done:
    """Run a part; whatever happens to it, the rows that it has written are there."""
    if part.tool and shutil.which(part.tool[0]) is None:
        return Done(part, "not run", 0.0, [Row(part.name, part.tool[0], "", None, "it is not on the PATH")])
    if seconds < 1:
        return Done(part, "no time left")
    kept, rows = out / "parts" / part.name.replace(" ", "_"), out / "rows.jsonl"
    kept.mkdir(parents=True, exist_ok=True)
    rows.unlink(missing_ok=True)
    told = {
        "name": part.name, "device": args.device, "quick": args.quick, "seconds": seconds, "rows": str(rows),
        "folder": str(kept), "resume": args.resume and str(Path(args.resume).resolve()), "more": part.more,
    }  # fmt: skip
    command = [*part.tool, sys.executable, "-m", part.module, json.dumps(told)]
    log.write(f"\n===== {part.name}: {part.module} {' '.join(part.more)}, {seconds:.0f} s\n")
    log.flush()
    before = time.monotonic()
    environment = _environment() | dict(part.variables)
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    try:
        code = process.wait(seconds)
        status = "done" if code == 0 else f"failed: exit code {code}"
    except subprocess.TimeoutExpired:
        status = "stopped: it took too long"
    finally:
        _end(process)
    return Done(part, status, time.monotonic() - before, _rows(rows))


def _environment() -> dict[str, str]:
    paths = [str(ROOT / "src"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a part and all that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _rows(path: Path) -> list[Row]:
    """The rows that a part has written; the last may be cut short."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            found.append(Row(**json.loads(line)))
        except (ValueError, TypeError):
            break
    return found


def _line(done: Done) -> str:
    wrong = sum(row.ok is False for row in done.rows)
    return f"{done.part.name}: {done.status}, {done.seconds:.0f} s, {len(done.rows)} rows, {wrong} wrong"


def _write(out: Path, found: Sequence[Done], seconds: float) -> None:
    """The table, and all rows as CSV: after each part, so that nothing is lost with the next one."""
    heading = f"{seconds:.0f} s; {'something is WRONG' if any(done.wrong for done in found) else 'nothing is wrong'}"
    lines = [f"**{heading}**", "", "| part | status | s | rows | wrong |", "|---|---|---|---|---|"]
    for done in found:
        wrong = sum(row.ok is False for row in done.rows)
        lines.append(f"| {done.part.name} | {done.status} | {done.seconds:.0f} | {len(done.rows)} | {wrong} |")
    lines += ["", "| part | case | value | right | note |", "|---|---|---|---|---|"]
    words = {True: "yes", False: "NO", None: ""}
    for row in (row for done in found for row in done.rows):
        cells = [row.part, row.case, row.value, words[row.ok], row.note]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (out / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for done in found for row in done.rows)


def _pack(out: Path) -> None:
    """What the parts have left, as one archive: few files are carried more easily than many."""
    (out / "rows.jsonl").unlink(missing_ok=True)
    with tarfile.open(out / ARCHIVE, "w:gz") as archive:
        archive.add(out / "parts", "parts")
    shutil.rmtree(out / "parts")


def _collect(folder: Path) -> int:
    done = subprocess.run([sys.executable, "-m", "benchmarks.parts.collect", str(folder.resolve())],
                          env=_environment() | {"PWD": os.getcwd()})  # fmt: skip
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
