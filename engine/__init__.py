"""How every network here is trained."""
