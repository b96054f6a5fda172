"""Notebook 02: rules of data quality, and drift from an earlier catalogue."""
