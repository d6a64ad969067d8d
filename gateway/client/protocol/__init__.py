"""The protocol between a client and the gateway, as steps without I/O."""
