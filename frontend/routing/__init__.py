"""Which engine a request goes to: targets and their health, affinity to what their KV caches hold, sessions."""
