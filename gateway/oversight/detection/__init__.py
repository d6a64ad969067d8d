"""Detection of unusual activity: profiles, signals and findings."""
