"""What the jobs need, imported once in the server that they are forked from."""

import kuleshov.context.masked_event
import kuleshov.contrast.cvrl
import kuleshov.contrast.data
import kuleshov.pipeline.lightning
import kuleshov.tasks.lvu.scene_head
import kuleshov.tasks.relations.events
import kuleshov.tasks.roles.module
import kuleshov.tasks.verbs.events  # noqa: F401
