# The lab's first process: PID 1 of its own PID namespace, in its own mount namespace. Everything else in the lab
# lives below it, so when it ends the kernel ends all of them, and with them go namespaces, veth pairs and mounts.
# $1: `owned` ends when standard input does (its owner has died, however), `kept` stays until it is killed.
# Prints "HOST PID" for each host, then "ready".
set -eu
exec 2>&1
mount -t proc proc /proc
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir /run/lab /run/machine

# What an operator's Backstop has on this machine (/etc/backstop, /var/lib/backstop, its user) is neither seen nor
# touched in the lab: /etc is a copy, /var/lib is links to what else is there. /run is the lab's own already.
mount --bind /var/lib /run/machine
mount -t tmpfs -o mode=0755 tmpfs /var/lib
find /run/machine -mindepth 1 -maxdepth 1 ! -name backstop -exec ln -s -t /var/lib {} +
mkdir /run/etc
mount -t tmpfs -o mode=0755 tmpfs /run/etc
cp -a /etc/. /run/etc
rm -rf /run/etc/backstop
mount --move /run/etc /etc
rmdir /run/etc

for host in internet edge mta; do
    unshare --net --mount --uts --propagation private -- sh -eu -c '
        echo "$1" >/proc/sys/kernel/hostname
        mount -t sysfs sysfs /sys
        mount -t bpf bpf /sys/fs/bpf
        ip link set lo up
        cd /proc/sys/net
        # Not BBR, which paces. Where the machine lets only its own default be chosen, Reno is always allowed.
        (echo cubic >ipv4/tcp_congestion_control) 2>/dev/null || echo reno >ipv4/tcp_congestion_control
        echo 0 >ipv4/ip_forward
        echo 0 >ipv4/conf/all/rp_filter
        echo 0 >ipv4/conf/default/rp_filter
        echo 0 >ipv6/conf/all/disable_ipv6
        echo 0 >ipv6/conf/default/disable_ipv6
        echo 0 >ipv6/conf/all/forwarding
        echo 0 >ipv6/conf/default/accept_dad
        echo 0 >ipv6/conf/default/accept_ra
        echo 1 >ipv6/ip_nonlocal_bind
        echo 4096 >core/somaxconn
        echo >"/run/lab/$1.ready"
        exec sleep infinity' sh "$host" </dev/null &
    pid=$!
    until [ -e "/run/lab/$host.ready" ]; do
        kill -0 "$pid" 2>/dev/null || { echo "$host did not start"; exit 1; }
        sleep 0.01
    done
    rm "/run/lab/$host.ready"
    echo "$host $pid"
done
echo ready

case $1 in
    owned) cat >/dev/null ;;
    kept) exec >/dev/null 2>&1; while :; do sleep 86400; done ;;
esac
