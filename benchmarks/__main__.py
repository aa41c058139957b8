"""`python -m benchmarks [options]` is `goldfish bench [options]`, and needs no installation."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
    from goldfish.cli import main

    sys.exit(main(["bench", *sys.argv[1:]]))
