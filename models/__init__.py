"""EAL-ICNet, the method under test, and the layers that it shares with its baselines."""
