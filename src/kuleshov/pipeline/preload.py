"""What every job needs, imported once in the server that jobs are forked from."""

import kuleshov.context
import kuleshov.contrast
import kuleshov.pipeline.lightning  # noqa: F401
