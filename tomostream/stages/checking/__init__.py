"""`check`: is what was made still whole?  What can be made again is, with the same bytes."""
