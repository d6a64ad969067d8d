"""Files that the gateway sends: exports of the log that have an end."""
