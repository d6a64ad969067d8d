"""Running deliveries: the reader of each destination, its batches and its lease."""
