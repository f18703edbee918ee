"""`python -m relevance_core` is the command `relevance`."""

import sys

from relevance_core.cli import main

sys.exit(main())
