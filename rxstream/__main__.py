"""``python -m rxstream``."""

import sys

from rxstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
