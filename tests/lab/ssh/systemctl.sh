#!/bin/sh
# A stand-in for systemctl on the lab's hosts, where no systemd runs: it knows one unit, starts and stops what that
# unit's ExecStart names, and knows the unit as it was at the last daemon-reload, as systemd does. It runs the daemon by
# the unit's user and with its capabilities; of the other settings none counts.
set -eu
place=/run/standin
installed=/etc/systemd/system/backstop.service
wants=/etc/systemd/system/multi-user.target.wants/backstop.service
mkdir -p "$place"

pid() { cat "$place/pid" 2>/dev/null || echo 0; }
# A process that has ended and that nobody waited for is dead too.
alive() { [ "$(pid)" -gt 0 ] && grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$(pid)/status" 2>/dev/null; }
say_unless_quiet() { case " $* " in *" --quiet "*) ;; *) echo "$state" ;; esac; }

setting() { sed -n "s/^$1=//p" "$place/loaded"; }

stop() {
    if alive; then
        kill -TERM "$(pid)"
        n=0
        while alive && [ "$n" -lt 300 ]; do sleep 0.1; n=$((n + 1)); done
        if alive; then kill -KILL "$(pid)"; fi
    fi
    rm -f "$place/pid"
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
    # As StartLimitBurst: what was started too often has to be forgiven first.
    starts=$(($(cat "$place/starts" 2>/dev/null || echo 0) + 1))
    echo "$starts" >"$place/starts"
    if [ "$starts" -gt 5 ]; then echo "Start request repeated too quickly." >&2; exit 1; fi
    # shellcheck disable=SC2086 # words, as in a unit
    setsid $command </dev/null >>/var/log/backstop.log 2>&1 &
    echo $! >"$place/pid"
    # As Type=notify: what ends before it is ready has failed.
    sleep 0.4
    if ! alive; then echo "Job for backstop.service failed." >&2; exit 1; fi
}

case $1 in
daemon-reload)
    if [ -e "$installed" ]; then cp "$installed" "$place/loaded"; else rm -f "$place/loaded"; fi
    ;;
enable)
    mkdir -p "$(dirname "$wants")"
    ln -sf "$installed" "$wants"
    ;;
disable)
    rm -f "$wants"
    case " $* " in *" --now "*) stop ;; esac
    ;;
reset-failed) rm -f "$place/starts" ;;
is-enabled) [ -L "$wants" ] ;;
restart) stop; start ;;
start) alive || start ;;
stop) stop ;;
is-active)
    state=inactive
    if alive; then state=active; elif [ -e "$place/pid" ]; then state=failed; fi
    say_unless_quiet "$@"
    [ "$state" = active ] || exit 3
    ;;
show) if alive; then pid; else echo 0; fi ;;
*)
    echo "the stand-in for systemctl does not know: $*" >&2
    exit 1
    ;;
esac
