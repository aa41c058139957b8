"""Models: recurrent networks, and the models that they are compared with."""
