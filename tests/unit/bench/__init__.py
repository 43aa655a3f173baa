"""Tests of the measurements: a yardstick that cannot fail measures nothing."""
