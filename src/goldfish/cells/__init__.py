"""One step of each recurrent cell: its equations and, optionally, its hand-derived adjoint."""
