"""Who may run now, who waits for it and in which order, and who is told to come back when."""
