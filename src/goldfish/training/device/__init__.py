"""The parts of a pack's training that are needed only on a GPU."""
