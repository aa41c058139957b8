"""In a clone with everything installed: what a run of gpu_session.py has left goes to where it belongs."""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = "collected.tar.gz"


def main(folder: Path) -> int:
    """Tables of the benchmark to benchmarks/results/gpu, outcomes to those that wait for the store; 2 without them."""
    from benchmarks import results, rows
    from goldfish.tracking.store import Store

    if not (folder / ARCHIVE).is_file():
        print(
            f"goldfish: --collect={folder}: no {ARCHIVE} there; expected the --out of an earlier run", file=sys.stderr
        )
        return 2
    state = Store().state
    with tempfile.TemporaryDirectory() as temporary, tarfile.open(folder / ARCHIVE) as archive:
        archive.extractall(temporary, filter="data")
        for table in sorted(Path(temporary).glob("parts/*/*.csv")):
            _, about = rows.read(table)
            if about["device"] != "cuda" or about["quick"] == "yes":
                print(f"Left where it is: {table.name}, of {about['device']}, quick: {about['quick']}")
                continue
            target = ROOT / "benchmarks" / "results" / results.FOLDERS["cuda"] / table.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(table, target)
            print(f"Written: {target.relative_to(ROOT)} ({about['machine']})")
        waiting = sorted(Path(temporary).glob("parts/forgetting/spool/*"))
        (state / "spool").mkdir(parents=True, exist_ok=True)
        for outcome in waiting:
            shutil.copyfile(outcome, state / "spool" / outcome.name)
    print(f"{len(waiting)} outcomes wait in {state}: goldfish reproduce forgetting --scale gpu records them")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
