"""Raw files to validated records to per-user arrays. Never imports TensorFlow Federated."""
