"""What runs in a tool process, where it can be ended: it may take any time and any memory. Each module is imported there alone."""
