"""Plain values and mathematics: numpy only, no input or output, no torch."""
