"""`python -m lib.workbook` is the command `workbook`."""

import sys

from lib.workbook.cli import main

if __name__ == "__main__":  # worker processes import this module again
    sys.exit(main())
