"""`python -m goldfish` is `goldfish`."""

from __future__ import annotations

import sys

from goldfish.cli import main

if __name__ == "__main__":
    sys.argv[0] = "goldfish"  # as in help texts and in the line that installs shell completion
    sys.exit(main())
