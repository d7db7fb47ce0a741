"""``python -m rxstream.cli``."""

import sys

from rxstream.cli import main

sys.exit(main())
