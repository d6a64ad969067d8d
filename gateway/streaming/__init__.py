"""How events flow to readers: tail, replay and enforcement."""
