"""`import` and `export`: tables of other software."""
