"""What the commands ask of a gateway: of its folder, or by its HTTP interface."""
