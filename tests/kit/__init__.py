"""What the tests share: builders with defaults, fakes of the seams, receivers on loopback."""
