#!/bin/sh
# A stand-in for systemctl on the lab's hosts, where no systemd runs: it knows one unit, starts and stops what that
# unit's ExecStart names, and knows the unit and its drop-ins as they were at the last daemon-reload, as systemd does. It
# runs the daemon by the unit's user and with its capabilities, waits until that is ready (Type=notify, by
# `backstop-service`), and keeps to TimeoutStartSec and TimeoutStopSec; a restart keeps what the daemon has it keep
# (FileDescriptorStoreMax); of the other settings none counts.
set -eu
place=/run/standin
installed=/etc/systemd/system/backstop.service
wants=/etc/systemd/system/multi-user.target.wants/backstop.service
mkdir -p "$place"

pid() { cat "$place/pid" 2>/dev/null || echo 0; }
# A process that has ended and that nobody waited for is dead too.
lives() { [ "$1" -gt 0 ] && grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }
alive() { lives "$(pid)"; }
state() { cat "$place/state" 2>/dev/null || echo inactive; }
say_unless_quiet() { case " $* " in *" --quiet "*) ;; *) state ;; esac; }

# A drop-in counts more than the unit; what neither says is as $2.
setting() {
    said=$(sed -n "s/^$1=//p" "$place/loaded" 2>/dev/null | tail -n 1)
    echo "${said:-${2:-}}"
}
# A time in systemd's own words, and in seconds.
span() { systemd-analyze timespan "$(setting "$@")" | sed -n 's/^ *Human: //p'; }
seconds() { systemd-analyze timespan "$(setting "$@")" | sed -n 's/^ *[^ ]*s: \([0-9]*\)[0-9]\{6\}$/\1/p'; }

stop() {
    if alive; then
        echo deactivating >"$place/state"
        kill -TERM "$(pid)"
        left=$(($(seconds TimeoutStopSec 90) * 10))
        while alive && [ "$left" -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
        if alive; then kill -KILL "$(pid)"; fi
        while alive; do sleep 0.1; done
    fi
    # The one that watches over it writes a last word; in a restart it may keep sockets for the next one.
    while [ ! -e "$place/keeping" ] && lives "$(cat "$place/watcher" 2>/dev/null || echo 0)"; do sleep 0.05; done
    lives "$(cat "$place/watcher" 2>/dev/null || echo 0)" || rm -f "$place/keeping"
    rm -f "$place/watcher" "$place/pid" "$place/state"
}

start() {
    [ -e "$place/loaded" ] || { echo "Unit backstop.service not found." >&2; exit 5; }
    command=$(setting ExecStart)
    user=$(setting User)
    if [ -n "$user" ]; then
        install -d -o "$user" -g "$user" -m 0755 /run/backstop
        install -d -o "$user" -g "$user" -m 0700 /var/lib/backstop
        set=-all
        for cap in $(setting AmbientCapabilities); do
            set=$set,+$(echo "${cap#CAP_}" | tr '[:upper:]' '[:lower:]')
        done
        command="setpriv --reuid=$user --regid=$user --init-groups --no-new-privs --inh-caps=$set \
            --ambient-caps=$set --bounding-set=$set $command"
    fi
    echo activating >"$place/state"
    # shellcheck disable=SC2086 # words, as in a unit
    setsid /usr/libexec/backstop-service "$place" $command </dev/null >>/var/log/backstop.log 2>&1 &
    echo $! >"$place/watcher"
    left=$(($(seconds TimeoutStartSec 90) * 20))
    while [ "$(state)" = activating ] && [ "$left" -gt 0 ]; do sleep 0.05; left=$((left - 1)); done
    if [ "$(state)" = activating ]; then kill -KILL "$(pid)"; fi
    if [ "$(state)" != active ]; then echo "Job for backstop.service failed." >&2; exit 1; fi
}

case $1 in
daemon-reload)
    rm -f "$place/loaded"
    if [ -e "$installed" ]; then cat "$installed" "$installed".d/*.conf 2>/dev/null >"$place/loaded" || :; fi
    ;;
enable)
    mkdir -p "$(dirname "$wants")"
    ln -sf "$installed" "$wants"
    ;;
disable)
    rm -f "$wants"
    case " $* " in *" --now "*) stop ;; esac
    ;;
reset-failed) if [ "$(state)" = failed ]; then rm -f "$place/state"; fi ;;
is-enabled) [ -L "$wants" ] ;;
restart)
    if [ -n "$(setting FileDescriptorStoreMax)" ]; then touch "$place/restarting"; fi
    stop
    rm -f "$place/restarting"
    start
    ;;
start) [ "$(state)" = active ] || { rm -f "$place/keeping"; start; } ;;
stop) stop ;;
is-active)
    say_unless_quiet "$@"
    [ "$(state)" = active ] || exit 3
    ;;
show)
    case " $* " in
    *" --property MainPID --value "*) if alive; then pid; else echo 0; fi ;;
    *" --property TimeoutStartUSec,TimeoutStopUSec,TimeoutAbortUSec "*)
        echo "TimeoutStartUSec=$(span TimeoutStartSec 90)"
        echo "TimeoutStopUSec=$(span TimeoutStopSec 90)"
        echo "TimeoutAbortUSec=$(span TimeoutAbortSec "$(setting TimeoutStopSec 90)")"
        ;;
    *) echo "the stand-in for systemctl does not know: $*" >&2; exit 1 ;;
    esac
    ;;
*)
    echo "the stand-in for systemctl does not know: $*" >&2
    exit 1
    ;;
esac
