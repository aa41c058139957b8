"""Training: the LightningModule and LightningDataModule of a pack, and train(configs) → outcomes."""
