"""Reproducer bundles: a divergence without its test, written, replayed and made small."""
