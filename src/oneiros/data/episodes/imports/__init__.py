"""Recordings of other kinds, episode by episode, as a LeRobot dataset."""
