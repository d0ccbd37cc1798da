"""The strategy `sphere`: a matched filter with a ball or shell of the particle's radius; the clicks only choose between them."""
