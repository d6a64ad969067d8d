"""The flow of events to readers: tail, replay and enforcement."""
