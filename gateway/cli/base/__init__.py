"""What commands share: options, the data folder, and output."""
