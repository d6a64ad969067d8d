"""What the stores of a gateway say of its health, and checks of how it is set up."""
