"""Towers and two-tower models. No federated word in here."""
