"""`python -m ftkit.cli` is the `ftkit` command, too."""

import sys

from ftkit.cli.main import main

sys.exit(main())
