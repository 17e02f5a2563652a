#!/bin/sh
# A stand-in for journalctl: what the stand-in for systemctl has had the daemon write.
tail -n 10 /var/log/backstop.log
