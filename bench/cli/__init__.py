"""The `fedfore` command: its arguments, its verbs and what they print. Nobody imports it."""
