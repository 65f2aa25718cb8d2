"""Learning processes for TensorFlow Federated, one stage or process a file."""
