#!/bin/sh
# Stands before a command that deploy's script calls, under its name: writes the call down, and, where a test has named
# it in `fault` (lines with the kind, how many such calls go well before, and a pattern), makes that call go wrong.
here=${0%/bin/*}
name=${0##*/}
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
call="$name $*"
printf '%s\n' "$call" | tr '\n' ' ' >>"$here/calls"
echo >>"$here/calls"
kind=
if [ -e "$here/fault" ]; then
    { read -r kind && read -r before && IFS= read -r pattern; } 2>/dev/null <"$here/fault"
fi
# shellcheck disable=SC2254 # the test's pattern
if [ -n "$kind" ]; then
    case $call in
    $pattern)
        if [ "$before" -gt 0 ]; then
            printf '%s\n' "$kind" $((before - 1)) "$pattern" >"$here/fault"
        # Whoever moves the file away is the one.
        elif mv "$here/fault" "$here/fault.happened" 2>/dev/null; then
            case $kind in
            fails) exit 1 ;;
            damages)
                "$name" "$@"
                code=$?
                printf x
                exit "$code"
                ;;
            hangs) while [ ! -e "$here/go-on" ]; do sleep 0.1; done ;;
            connection-dies | power-cut)
                # All but the one that listens: the one with privileges, and the user's own.
                for process in /proc/[0-9]*; do
                    pid=${process#/proc/}
                    case $pid:$(cat "$process/comm" 2>/dev/null) in
                    1:*) ;;
                    *:sshd*) kill -9 "$pid" ;;
                    esac
                done
                ;;
            esac
            if [ "$kind" = power-cut ]; then
                # All that belongs to the script dies, and this with it; the daemon stays.
                for process in /proc/[0-9]*; do
                    pid=${process#/proc/}
                    if [ "$pid" != $$ ] && grep -qz backstop-deploy "$process/cmdline" 2>/dev/null; then kill -9 "$pid"; fi
                done
                kill -9 $$
            fi
        fi
        ;;
    esac
fi
exec "$name" "$@"
