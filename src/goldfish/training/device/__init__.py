"""What only a GPU needs of the training of a pack."""
