"""`python -m kuleshov` is the same as `kuleshov`."""

import sys

from kuleshov.cli import main

if __name__ == "__main__":
    sys.exit(main())
