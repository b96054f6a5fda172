"""What listeners do, and what the next training learns from it."""
