"""Stored results to pages."""
