"""Files of the data folder: locks, secrets and peppers."""
