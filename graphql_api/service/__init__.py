"""The use cases: what a caller can ask for, in terms of records and ports."""
