"""Options of the commands from flags, environment and TOML, and how texts become values."""
