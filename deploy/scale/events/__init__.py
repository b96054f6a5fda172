"""What listeners do: from the door to a log, a lake and features, and back into answers."""
