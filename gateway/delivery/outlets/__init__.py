"""Outlets: one module for each type of destination, and the port that all of them implement."""
