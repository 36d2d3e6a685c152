"""Who starts the process and watches it: a launcher that leaves a daemon behind, systemd."""
