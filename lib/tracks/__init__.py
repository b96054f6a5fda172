"""Notebook 01: synthetic and imported tracks, the moods that they lack, and listener requests."""
