"""All processes of one gateway, over workers and replicas, and what they are asked."""
