"""What the jobs need, imported once in the server that they are forked from."""
