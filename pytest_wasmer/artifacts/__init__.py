"""Compiled code on disk: its key, its seal, its store."""
