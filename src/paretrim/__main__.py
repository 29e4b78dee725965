"""``python -m paretrim`` is the command ``paretrim``."""

import sys

from paretrim.cli import main

sys.exit(main())
