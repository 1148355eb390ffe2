"""Settings: protocols, networks by name and what papers publish of them."""
