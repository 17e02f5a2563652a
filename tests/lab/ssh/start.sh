# Starts a host that is reached by ssh: Debian's sshd, unpacked, as PID 1 of its own PID namespace, with /usr, /etc and
# /var of its own (overlays) and /run empty. $1: its name, and its folder below /run/lab; $2: the unpacked package.
set -eu
files=/run/lab/$1
package=$2
mount -t proc proc /proc
for folder in usr etc var; do
    lower=/$folder
    if [ -d "$package/$folder" ]; then lower=$package/$folder:$lower; fi
    mkdir -p "$files/$folder" "$files/$folder.work"
    mount -t overlay -o "lowerdir=$lower,upperdir=$files/$folder,workdir=$files/$folder.work" overlay "/$folder"
done
mkdir -p "$files/run/lab" "$files/run/sshd"
mount --bind /run/lab "$files/run/lab"
mount --rbind "$files/run" /run
mount -t tmpfs -o mode=1777 tmpfs /tmp
# Nor what root's shell does at a login on this machine.
mount -t tmpfs -o mode=0700 tmpfs /root
# What this machine may have of Backstop itself.
rm -rf /etc/backstop /usr/local/bin/backstop /usr/local/lib/backstop /etc/systemd/system/backstop.service
cp "$files/systemctl" /usr/bin/systemctl
cp "$files/journalctl" /usr/bin/journalctl
mkdir -p /usr/libexec
ln -sfn /run/lab/deployer/backstop-service /usr/libexec/backstop-service
echo "$1" >/proc/sys/kernel/hostname
exec /usr/sbin/sshd -D -e -f "$files/sshd_config"
