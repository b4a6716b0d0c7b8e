"""Run the command fnn: ``python -m fnn``."""

import sys

from fnn._cli import main

sys.exit(main())
