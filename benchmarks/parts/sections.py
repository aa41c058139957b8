"""Sections of the benchmark, with fewer and shorter rounds; their tables are left as CSV."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.parts.part import Part, told

EXACT = ("exactness",)  # sections whose targets are about right numbers: the others' are about times


def main(part: Part) -> None:
    """Measure job by job, for as long as there is time."""
    from benchmarks import results, rows, run, table
    from benchmarks.bench import Bench

    @dataclass
    class Short(Bench):
        """A benchmark in a hurry."""

        @property
        def rounds(self) -> int:
            return 1 if self.quick else 3

        @property
        def seconds(self) -> float:
            return 0.005 if self.quick else 0.08

    (name,) = part.more
    module = run.section(name)
    threads, found = 1 if part.quick else 2, []
    about = results.about(part.device, threads, part.quick)
    with ExitStack() as stack:
        bench = Short(part.device, threads, part.quick, stack)
        for job in module.jobs(bench):
            if part.time_left < 0:
                part.row(job.name, "", None, "no time was left")
                continue
            measured = job.run()
            found += measured
            for item in measured:
                right = item.met == "yes" if item.met and name in EXACT else None
                times = f", {item.ratio:.3g}×" if item.ratio is not None and item.value is not None else ""
                value = table.quantity(item.value, item.unit) if item.value is not None else ""
                aim = f"target {item.target}" if item.target else ""
                part.row(f"{item.case}: {item.peer}", value + times, right, item.note or aim)
        rows.write(part.folder / f"{name}.csv", [*found, *module.summary(bench, found)], about)


if __name__ == "__main__":
    main(told())
