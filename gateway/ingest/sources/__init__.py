"""Sources: records of other systems as events. `catalog` has those that are shipped."""
