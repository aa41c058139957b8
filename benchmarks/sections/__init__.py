"""What is measured: one file a section. Each has TITLE, NEEDS (packages), jobs(bench) and summary(bench, rows)."""

SECTIONS = (
    "single", "instrumented", "packing", "sweep", "exactness", "growth", "first_use", "compiled", "harness", "floor",
    "watch",
)  # fmt: skip
