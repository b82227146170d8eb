"""From disk to memory and back: checks at this door, trust inside."""
