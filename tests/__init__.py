"""The suite, in tiers by folder: what a tier may touch is said at the top of each."""
