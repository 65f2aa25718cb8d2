"""tff_rec: federated recommenders in TensorFlow Federated. Importing this package imports no TensorFlow."""
