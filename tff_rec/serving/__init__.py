"""Trained weights to a SavedModel, and back."""
