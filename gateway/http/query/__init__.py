"""What readers ask for: the parameters of streams and pages, and where they begin."""
