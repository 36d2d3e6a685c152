"""Who starts and watches the process, and the processes before and behind it: a launcher, systemd, upgrades."""
