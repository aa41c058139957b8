"""`python -m benchmarks` is `goldfish bench`; results/ holds what was measured."""
