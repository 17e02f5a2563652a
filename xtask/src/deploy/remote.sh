#!/bin/sh
# The far side of `cargo xtask deploy`: run as `sh -c SCRIPT backstop-deploy STEP ARGUMENTS`, as root.
#
# Steps, in their order:
#   attend look|lock TOKEN WHO   says what is here, takes the lock, and stays as long as the deployer does
#   put TOKEN FILE MODE SHA256   takes a file from standard input
#   try TOKEN                    runs what came, to see that it runs here
#   switch TOKEN ID SECS         to the release ID, and back by itself where that does not come up within SECS
#
# What is told goes to standard output, a line each: `fact NAME VALUE`, `step WORDS`, `say WORDS`, `error WORDS`.
# Exit codes: 0 done; 1 not done, and the host is as it was; 4 locked; 5 not done, and the host needs a look.
#
# Nothing that is in use is touched before `switch`. The switch runs apart from the connection and writes to a file,
# so that neither a dead nor a stalled deployer can stop it half-way: it finishes, or it takes everything back. What
# a power cut stops is written in a journal, and taken back by the next `attend lock`.
set -eu
umask 022
LC_ALL=C
export LC_ALL

unit=backstop.service
# Releases, each in a directory that is named by its version and hash, and never changed once it is there.
lib=/usr/local/lib/backstop
# The one name that is switched: a symbolic link into a release, replaced by a rename.
link=/usr/local/bin/backstop
config=/etc/backstop/backstop.toml
keys=/etc/backstop/keys
# Locks and the last switch's words. Gone with a restart of the machine, as the processes are.
run=/run/backstop-deploy
# What a switch is about: `new=ID old=ID was=STATE enabled=yes|no taken=yes|no config=yes|no keys=yes|no`. Renamed to `last` when it is done.
journal=$lib/.switching
last=$lib/.last

# How long a deployer may be silent, in seconds. It sends a line every ten.
silence_secs=60
# How long the program may take to answer a command (its version, `check`, `status`), in seconds.
answer_secs=20
# What stands for `infinity` in a unit, in seconds: a day.
infinity_secs=86400
# How many releases are kept.
releases_max=3

fact() { echo "fact $1 $2"; }
step() { echo "step $*"; }
refuse() {
    echo "error $*"
    exit 1
}

sum() { sha256sum "$1" | cut -d ' ' -f 1; }

# Neither may hold the locks: a daemon that a stand-in for systemd starts would keep them.
systemctl() { command systemctl "$@" 8>&- 9>&-; }
bounded() { timeout "$(restart_secs)" systemctl "$@" "$unit" 8>&- 9>&-; }

# Runs the program of a directory; one that hangs is killed.
program() {
    program=$1/backstop
    shift
    code=0
    timeout --kill-after=5 "$answer_secs" "$program" "$@" 8>&- 9>&- || code=$?
    case $code in 124 | 137) echo "it does not answer within $answer_secs s" >&2 ;; esac
    return "$code"
}
backstop() {
    release=$1
    shift
    program "$lib/$release" "$@"
}

# A time as systemd writes it (`1h 30min`), in seconds, rounded up.
seconds() {
    case $1 in infinity) echo "$infinity_secs" && return ;; esac
    total=0
    for part in $1; do
        count=${part%%[!0-9.]*}
        name=${part#"$count"}
        count=${count%%.*}
        case $name in
        y) each=31557600 ;;
        month) each=2629800 ;;
        w) each=604800 ;;
        d) each=86400 ;;
        h) each=3600 ;;
        min) each=60 ;;
        s) each=1 ;;
        *) count=1 each=1 ;;
        esac
        case $part in *.*s) total=$((total + 1)) ;; esac
        total=$((total + count * each))
    done
    echo "$total"
}

# The longest that a restart may lawfully take, in seconds, as the unit and its drop-ins are loaded. A stop waits for the
# replies to messages that are on their way (TimeoutStopSec); what is then still there is aborted (TimeoutAbortSec); to
# start, what comes before the daemon has as long as the daemon (TimeoutStartSec, each). And a minute.
restart_secs() {
    stop_secs=900 abort_secs=30 start_secs=90
    spans=$(systemctl show --property TimeoutStartUSec,TimeoutStopUSec,TimeoutAbortUSec "$unit" 2>/dev/null) || spans=
    while IFS='=' read -r name span; do
        case $name in
        TimeoutStopUSec) stop_secs=$(seconds "$span") ;;
        TimeoutAbortUSec) abort_secs=$(seconds "$span") ;;
        TimeoutStartUSec) start_secs=$(seconds "$span") ;;
        esac
    done <<SPANS
$spans
SPANS
    echo $((stop_secs + abort_secs + 2 * start_secs + 60))
}

# Says until when this is done at the latest, for who looks: that many times a restart, and the wait for its health.
expect_restarts() {
    patience_secs=${patience_secs:-60}
    echo $(($(uptime_secs) + $1 * ($(restart_secs) + patience_secs + 3 * answer_secs) + 60)) >"$run/until"
}

# How long that still is, in seconds.
left_secs() {
    read -r until 2>/dev/null <"$run/until" || until=0
    left=$((until - $(uptime_secs)))
    if [ "$left" -gt 0 ]; then echo "$left"; else echo 0; fi
}

# The release that the link leads to; nothing where there is none.
current() {
    target=$(readlink "$link" 2>/dev/null) || return 0
    case $target in
    "$lib"/*/backstop) basename "$(dirname "$target")" ;;
    esac
}

state() { systemctl is-active "$unit" 2>/dev/null || :; }

main_pid() { systemctl show --property MainPID --value "$unit" 2>/dev/null || :; }

# The hash of the program that runs, as the kernel has it; nothing where none runs.
running() {
    pid=$(main_pid)
    if [ "${pid:-0}" -gt 0 ] && [ -e "/proc/$pid/exe" ]; then sum "/proc/$pid/exe"; fi
}

# A field of a journal.
field() { tr ' ' '\n' <"$1" | sed -n "s/^$2=//p"; }

releases() { find "$lib" -mindepth 1 -maxdepth 1 -type d ! -name '.*' -printf '%T@ %f\n' 2>/dev/null | sort -rn | cut -d ' ' -f 2; }

needs() {
    for tool in sha256sum systemctl flock timeout find; do
        command -v "$tool" >/dev/null || refuse "there is no $tool here: deploy needs coreutils, util-linux, findutils and systemd"
    done
    [ "$(id -u)" = 0 ] || refuse "this is not root: log in as root, or give --sudo"
}

facts() {
    fact restart_secs "$(restart_secs)"
    fact machine "$(uname -m)"
    fact glibc "$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d ' ' -f 2)"
    now=$(current)
    fact release "$now"
    if [ -e "$last" ]; then fact previous "$(field "$last" old)"; fi
    for release in $(releases); do fact kept "$release"; done
    fact unit "$(state)"
    fact running "$(running)"
    if [ -n "$now" ]; then
        fact sha256 "$(sum "$lib/$now/backstop")"
        fact status "$(backstop "$now" status --json 2>/dev/null | tr '\n' ' ')"
    elif [ -e "$link" ]; then
        fact found "$(sum "$link")"
    fi
    if [ -e "$config" ]; then fact config yes; else fact config no; fi
    if [ -e "$journal" ]; then fact interrupted "$(field "$journal" new)"; fi
    if [ -e "$run/lock" ] && ! flock -n "$run/lock" true; then fact holder "$(cut -d ' ' -f 2- "$run/holder")"; fi
    if [ -e "$run/switch.lock" ] && ! flock -n "$run/switch.lock" true; then
        fact doing "$(sed -n 's/^step //p' "$run/words" 2>/dev/null | tail -n 1)"
        fact switching "$(left_secs)"
    fi
}

# The deployer's presence. The kernel lets go of the lock however this process ends.
attend() {
    token=$2
    needs
    # First: an earlier switch may have to be taken back.
    if [ "$1" = lock ]; then lock "$token" "$3"; fi
    facts
    echo ready
    while timeout "$silence_secs" sh -c 'read -r line' 8>&- 9>&-; do :; done
}

lock() {
    mkdir -p "$run"
    exec 9>>"$run/lock"
    # A look from elsewhere has it for a moment.
    if ! flock -w 2 9; then
        echo "error locked by $(cut -d ' ' -f 2- "$run/holder" 2>/dev/null)"
        exit 4
    fi
    echo "$1 $2, since $(date -u '+%Y-%m-%d %H:%M:%S') UTC" >"$run/holder"
    trap 'leave' EXIT
    trap 'exit 1' HUP INT TERM PIPE
    exec 8>>"$run/switch.lock"
    if ! flock -w 2 8; then
        echo "error a switch whose deployer went away is still at work here: wait until it is done"
        exit 4
    fi
    # Under both locks: nobody else has anything here.
    rm -rf "$lib"/.incoming-*
    if [ -e "$journal" ]; then
        step "an earlier switch to $(field "$journal" new) was cut off: taking it back"
        fact restart_secs "$(restart_secs)"
        touched=yes
        take_back || exit 5
    fi
    exec 8>&-
}

# When the deployer is gone: what it brought goes too, unless a switch is at work with it.
leave() {
    # First: what comes in now, or is still coming in, removes itself.
    rm -f "$run/holder"
    exec 8>>"$run/switch.lock"
    if flock -n 8; then
        rm -rf "$lib/.incoming-$token"
        rmdir "$lib" 2>/dev/null || :
    fi
}

is_holder() {
    read -r holder _ 2>/dev/null <"$run/holder" || holder=
    [ "$holder" = "$1" ]
}

# Nothing is done for a deployer that no longer has the lock (it was silent for too long, say).
holds() {
    if ! is_holder "$1" || flock -n "$run/lock" true; then
        refuse "the lock is lost: the deployer was silent for too long, or its connection broke"
    fi
}

put() {
    holds "$1"
    token=$1
    incoming=$lib/.incoming-$token
    trap 'is_holder "$token" || rm -rf "$incoming"' EXIT
    trap 'exit 1' HUP INT TERM PIPE
    mkdir -p "$lib"
    if [ ! -e "$incoming" ]; then mkdir -m 0700 "$incoming"; fi
    mkdir -p "$(dirname "$incoming/$2")"
    cat >"$incoming/$2"
    got=$(sum "$incoming/$2")
    [ "$got" = "$4" ] || refuse "$(basename "$2") arrived damaged: its SHA-256 is $got here and $4 there"
    chmod "$3" "$incoming/$2"
}

try() {
    holds "$1"
    said=$(program "$lib/.incoming-$1/release" --version 2>&1) || refuse "the new program does not run here: $said"
    fact version "${said#backstop }"
}

# The switch, apart from the connection: all its words go to a file, which is read from here.
switch() {
    holds "$1"
    words=$run/words
    : >"$words"
    # Not `work || ...`: `set -e` would mean nothing within.
    (
        set +e
        trap '' HUP INT TERM PIPE
        (
            set -e
            work "$@"
        )
        echo "end $?"
    ) </dev/null >>"$words" 2>&1 9>&- &
    part=
    exec 7<"$words"
    while :; do
        if IFS= read -r line <&7; then
            line=$part$line
            part=
            case $line in
            "end "*) exit "${line#end }" ;;
            esac
            printf '%s\n' "$line"
        else
            part=$part$line
            sleep 0.2
        fi
    done
}

work() {
    token=$1 new=$2 patience_secs=$3
    touched=no
    exec 8>>"$run/switch.lock"
    flock -w 10 8 || refuse "another switch is at work here"
    incoming=$lib/.incoming-$token
    if [ -z "$(current)" ]; then
        if [ -f "$link" ]; then adopt; else refuse_foreign; fi
    fi
    trap 'finish' EXIT
    expect_restarts 2
    open_journal
    take
    prepare
    check
    step "switching from ${old:-nothing} to $new"
    touched=yes
    install_units "$new"
    point "$new"
    systemctl daemon-reload
    if ! systemctl is-enabled --quiet "$unit" 2>/dev/null; then systemctl enable --quiet "$unit"; fi
    expect_restarts 2
    restart
    wait_until_healthy "$new" || refuse "$new is not healthy after $patience_secs s: $why"
    # This is what makes it done. The release in use, deployed once more, is not the one before itself.
    if [ "$old" = "$new" ] && [ -e "$last" ]; then rm -f "$journal"; else mv -f "$journal" "$last"; fi
    trap - EXIT
    step "$new is healthy"
    rm -rf "$incoming" || echo "say $incoming could not be removed"
    prune || echo "say older releases could not be removed from $lib"
}

# A unit whose program stands elsewhere is another installation: there would be no way back to it.
refuse_foreign() {
    if [ -L "$link" ]; then refuse "$link leads nowhere: remove it, or mend it"; fi
    while read -r _ place; do
        case $place in
        *.service)
            if [ -e "$place" ]; then
                refuse "$place is here without $link: this Backstop was installed in another way; put its program there, or remove the unit"
            fi
            ;;
        esac
    done <"$(places)"
}

# Where this release's files belong: as it is here already, or as it just came.
places() {
    if [ -e "$lib/$new/PLACES" ]; then echo "$lib/$new/PLACES"; else echo "$incoming/release/PLACES"; fi
}

# A program that was installed by hand (or that a link of somebody else's leads to) becomes a release, so that there is a
# way back to it.
adopt() {
    found=found-$(sum "$link" | cut -c 1-12)
    step "keeping the program that was installed by hand, as $found"
    rm -rf "$lib/.found"
    mkdir -p "$lib/.found"
    cp -p "$link" "$lib/.found/backstop"
    : >"$lib/.found/PLACES"
    while read -r file place; do
        if [ -e "$place" ]; then
            cp -p "$place" "$lib/.found/$file"
            echo "$file $place" >>"$lib/.found/PLACES"
        fi
    done <"$(places)"
    (cd "$lib/.found" && find . -type f -exec sha256sum {} +) >"$lib/.found.sums"
    mv "$lib/.found.sums" "$lib/.found/MANIFEST"
    rm -rf "${lib:?}/$found"
    mv -T "$lib/.found" "$lib/$found"
    point "$found"
}

has_keys() { for key in "$keys"/*.key; do [ -e "$key" ] && return 0; done; return 1; }

open_journal() {
    old=$(current)
    was=$(state)
    enabled=no
    if systemctl is-enabled --quiet "$unit" 2>/dev/null; then enabled=yes; fi
    taken=no config_made=no keys_made=no
    if [ ! -d "$lib/$new" ]; then taken=yes; fi
    if [ ! -e "$config" ] && [ -e "$incoming/etc/backstop.toml" ]; then config_made=yes; fi
    if ! has_keys && [ -e "$incoming/etc/keys" ]; then keys_made=yes; fi
    echo "new=$new old=$old was=$was enabled=$enabled taken=$taken config=$config_made keys=$keys_made" >"$journal.tmp"
    sync -f "$lib"
    mv -f "$journal.tmp" "$journal"
}

# What came takes its place, whole: a release that is there is complete.
take() {
    if [ "$taken" = yes ]; then
        [ -d "$incoming/release" ] || refuse "there is no release $new here"
        mv -T "$incoming/release" "$lib/$new"
    fi
    (cd "$lib/$new" && sha256sum --quiet --check MANIFEST) || refuse "$lib/$new is damaged"
    sync -f "$lib"
}

# A configuration where there is none; then the user and the directories that the unit needs, and who may read keys.
# (`systemd-sysusers` and `systemd-tmpfiles` take nothing away, so what they make stays when the rest is taken back.)
prepare() {
    mkdir -p "$(dirname "$config")"
    if [ "$keys_made" = yes ]; then
        step "installing keys, as there are none"
        mkdir -p "$keys"
        cp -p "$incoming"/etc/keys/* "$keys"
    fi
    if [ "$config_made" = yes ]; then
        step "installing the configuration, as there is none"
        cp "$incoming/etc/backstop.toml" "$config"
    fi
    while read -r file place; do
        case $place in
        */sysusers.d/*) systemd-sysusers "$lib/$new/$file" ;;
        */tmpfiles.d/*) systemd-tmpfiles --create "$lib/$new/$file" ;;
        esac
    done <"$lib/$new/PLACES"
    [ -e "$config" ] || refuse "there is no configuration here"
}

check() {
    step "checking the configuration with the new program"
    code=0
    said=$(backstop "$new" check --config "$config" 2>&1) || code=$?
    if [ "$code" != 0 ]; then
        echo "$said" | sed 's/^/say /'
        refuse "backstop check says no (exit code $code)"
    fi
}

# Each file is replaced by a rename. Those that the release does not have, and the other one had, go.
install_units() {
    while read -r file place; do
        mkdir -p "$(dirname "$place")" &&
            cp "$lib/$1/$file" "$place.tmp" &&
            chmod 0644 "$place.tmp" &&
            mv -f "$place.tmp" "$place" || return 1
    done <"$lib/$1/PLACES"
    for release in $new $old; do
        if [ "$release" != "$1" ]; then remove_units "$release" "$lib/$1/PLACES" || return 1; fi
    done
}

# The files of a release that are not places of another.
remove_units() {
    if [ ! -e "$lib/$1/PLACES" ]; then return 0; fi
    while read -r _ place; do
        rm -f "$place.tmp" || return 1
        if ! grep -qx "[^ ]* $place" "$2"; then rm -f "$place" || return 1; fi
    done <"$lib/$1/PLACES"
}

point() {
    mkdir -p "$(dirname "$link")" &&
        ln -sfn "$lib/$1/backstop" "$link.tmp" &&
        mv -fT "$link.tmp" "$link" &&
        sync -f "$lib"
}

restart() {
    step "restarting; the daemon waits for the replies to messages that are on their way"
    # What crashed again and again may not be started again, not even as another version, before this.
    systemctl reset-failed "$unit" 2>/dev/null || :
    code=0
    said=$(bounded restart 2>&1) || code=$?
    if [ "$code" != 0 ]; then
        echo "$said" | sed 's/^/say /'
        log_tail
        refuse "systemctl restart $unit failed (exit code $code)"
    fi
}

log_tail() {
    journalctl --unit "$unit" --lines 10 --no-pager --output cat 2>/dev/null | sed 's/^/say log: /' || :
}

uptime_secs() { cut -d . -f 1 /proc/uptime; }

# Healthy: the unit is active, its process runs this very program, and that answers for itself.
is_healthy() {
    now=$(state)
    if [ "$now" != active ]; then
        why="the unit is $now"
        return 1
    fi
    if [ "$(running)" != "$(sum "$lib/$1/backstop")" ]; then
        why="another program runs"
        return 1
    fi
    if ! said=$(backstop "$1" status --config "$config" 2>&1 >/dev/null); then
        why="backstop status says no${said:+: $said}"
        return 1
    fi
    why=
}

# Healthy twice, two seconds apart, as the same process: not one that dies and is started again.
wait_until_healthy() {
    step "waiting until it is healthy"
    begin=$(uptime_secs)
    seen=
    while [ $(($(uptime_secs) - begin)) -le "$patience_secs" ]; do
        if is_healthy "$1"; then
            pid=$(main_pid)
            if [ "$seen" = "$pid" ]; then return 0; fi
            seen=$pid
            sleep 2
        else
            seen=
            if [ "$now" = failed ]; then break; fi
            sleep 1
        fi
    done
    log_tail
    why=${why:-its process changes}
    return 1
}

# What ends a switch that failed.
finish() {
    trap - EXIT
    set +e
    rm -rf "$journal.tmp" "$incoming"
    if [ ! -e "$journal" ] || take_back; then exit 1; else exit 5; fi
}

# Takes back what the journal says. It can be done again, however far it came; the journal goes last.
take_back() {
    expect_restarts 1
    new=$(field "$journal" new) old=$(field "$journal" old) was=$(field "$journal" was)
    enabled=$(field "$journal" enabled)
    if [ "$touched" = yes ]; then
        if ! { if [ -n "$old" ]; then put_back; else take_off; fi; }; then
            echo "error ${old:-the host} could not be put back: what stands above says why. The next deploy tries again"
            return 1
        fi
    fi
    # What is left over here is only untidy.
    if [ "$(field "$journal" config)" = yes ]; then rm -f "$config"; fi
    if [ "$(field "$journal" keys)" = yes ]; then rm -f "$keys"/*.key; fi
    if [ "$(field "$journal" taken)" = yes ]; then rm -rf "${lib:?}/$new"; fi
    came_up=0
    if [ "$touched" = yes ] && [ -n "$old" ]; then bring_up || came_up=$?; fi
    # Gone as well where the old one does not come up: the next deploy may be what mends that.
    rm -f "$journal"
    return "$came_up"
}

put_back() {
    step "putting $old back"
    install_units "$old" && point "$old" && systemctl daemon-reload
}

take_off() {
    step "taking $new off again: there was nothing before"
    bounded disable --now --quiet || :
    remove_units "$new" /dev/null && rm -f "$link" && systemctl daemon-reload
}

# The release that is back, as its unit was before. One that was about to start again, or to reload, runs.
bring_up() {
    expect_restarts 1
    if [ "$enabled" = no ]; then systemctl disable --quiet "$unit" || :; fi
    case $was in
    activating)
        # It could not before, and is left to try on.
        step "$old is back; its unit tries to start, as before"
        bounded start >/dev/null 2>&1 || :
        return
        ;;
    inactive | failed | deactivating | unknown | '')
        step "$old is back; its unit was ${was:-not there} before, and is stopped"
        bounded stop
        return
        ;;
    esac
    patience_secs=${patience_secs:-60}
    why="it does not start"
    # In a subshell: a refusal there must not end this.
    if (restart) && wait_until_healthy "$old"; then
        step "$old is back, and healthy"
    else
        echo "error $old is back, but not healthy: $why"
        return 1
    fi
}

# Keeps the newest, and always the one in use and the one before it.
prune() {
    touch "$lib/$new"
    kept=0
    for release in "$new" $(field "$last" old) $(releases); do
        case " ${seen_releases:-} " in *" $release "*) continue ;; esac
        seen_releases="${seen_releases:-} $release"
        kept=$((kept + 1))
        if [ "$kept" -gt "$releases_max" ]; then rm -rf "${lib:?}/$release"; fi
    done
}

"$@"
