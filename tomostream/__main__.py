"""`python -m tomostream` is the command line."""

from tomostream.cli.main import main

main()
