"""`evaluate`: picks against truth."""
