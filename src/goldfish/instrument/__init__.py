"""The instrument: the exact gradient that reaches every step of anybody's torch model."""
