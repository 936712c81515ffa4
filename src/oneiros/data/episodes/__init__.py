"""Episodes on disk: LeRobot's dataset format."""
