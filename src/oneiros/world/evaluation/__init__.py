"""How close, how obedient, how lasting and how fast dreams are."""
