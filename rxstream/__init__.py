"""rxstream."""
