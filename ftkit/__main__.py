"""`python -m ftkit` is the `ftkit` command."""

import sys

from ftkit.cli.main import main

sys.exit(main())
