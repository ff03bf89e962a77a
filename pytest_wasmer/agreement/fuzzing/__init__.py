"""Looking for calls on which backends disagree, without a test."""
