"""`check`: are results on disk still intact?  Damaged parts are made again where possible, with the same bytes."""
