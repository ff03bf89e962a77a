"""What a run says: header and summary on the terminal."""
