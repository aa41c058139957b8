"""`python -m benchmarks [options]` is `goldfish bench [options]`, and needs no installation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    source = str(Path(__file__).parents[1] / "src")
    sys.path.insert(0, source)
    os.environ["PYTHONPATH"] = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])  # for children
    from goldfish.cli import main

    sys.exit(main(["bench", *sys.argv[1:]]))
