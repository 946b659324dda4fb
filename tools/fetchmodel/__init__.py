"""The parts of tools/fetch-model. Python's standard library only."""
