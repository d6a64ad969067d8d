"""Policy: what a key may do, what it sees, and whether one policy subsumes another."""
