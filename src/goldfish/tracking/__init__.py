"""The store of runs: MLflow, written in batches and read back as plain tables."""
