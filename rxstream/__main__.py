"""``python -m rxstream``."""

import sys

from rxstream.cli import main

sys.exit(main())
