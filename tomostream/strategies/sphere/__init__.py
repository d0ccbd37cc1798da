"""The strategy `sphere`: a ball or shell of the particle's radius as a matched filter; nothing is learnt but which of them fits the clicks."""
