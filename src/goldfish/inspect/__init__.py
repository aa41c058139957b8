"""Reports on the state of runs and of the store, made without training anything."""
