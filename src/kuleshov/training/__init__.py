"""What all trainings share: optimization, callbacks, the command line of Lightning."""
