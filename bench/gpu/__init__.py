"""How fast is tomostream on a GPU, and is it right there?  One prepared command for a machine that is lent for minutes (`__main__`)."""
