"""`labels`: label masks of a tomogram."""
