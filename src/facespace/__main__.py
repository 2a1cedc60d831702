"""`python -m facespace` is the command `facespace`."""

from facespace.cli import main

main()
