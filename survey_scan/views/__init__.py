"""What a person asks of a configuration or a run; nothing here changes a result."""
