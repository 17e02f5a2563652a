# Starts a mail server unpacked from its Debian package as if it were installed: PID 1 of its own PID namespace, with
# overlays over /usr, /etc and /var in its own mount namespace. $1: its folder below /run/lab; all others: the unpacked
# packages, its own and what stands beside it.
# Its configuration lies in its `etc` already; its `prepare` does what the package's scripts would do, and starts it.
set -eu
files=/run/lab/$1
shift
packages=("$@")
mount -t proc proc /proc
mkdir -p "$files/etc" "$files/etc.work" "$files/var" "$files/var.work" "$files/run/lab"

lower() {
    local package layers=
    for package in "${packages[@]}"; do
        if [ -d "$package/$1" ]; then layers+=$package/$1:; fi
    done
    echo "lowerdir=$layers/$1"
}
mount -t overlay -o "$(lower usr)" overlay /usr
for folder in etc var; do
    mount -t overlay -o "$(lower $folder),upperdir=$files/$folder,workdir=$files/$folder.work" overlay "/$folder"
done
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount --bind /run/lab "$files/run/lab"
mount --rbind "$files/run" /run
cd /
. "$files/prepare"
