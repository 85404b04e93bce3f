"""Plain CLIPs of open_clip, taken apart: towers, text, published weights and files of our own."""
