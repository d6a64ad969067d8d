"""Functions for what definitions cannot say, one module per vendor."""
