#!/bin/sh
# Runs `make demo` and `make test` as on a new machine: in a root of Debian or Ubuntu with nothing but its base.
#
#   sudo tools/bare_root.sh FOLDER [SUITE [TARGET...]]
#
# SUITE is one of Debian, bookworm by default, or of Ubuntu, such as noble with MIRROR=http://archive.ubuntu.com/ubuntu.
# What is committed is taken. FOLDER/SUITE is removed first: a root that was used is not bare.
set -eu

folder=$(realpath -m "${1:?usage: tools/bare_root.sh FOLDER [SUITE [TARGET...]]}")
suite=${2:-bookworm}
[ $# -lt 2 ] && shift || shift 2
mirror=${MIRROR:-http://deb.debian.org/debian}
checkout=$(cd "$(dirname "$0")/.." && pwd)
root=$folder/$suite

[ "$(id -u)" -eq 0 ] || { echo "bare_root: run this as root: debootstrap and chroot need it" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "bare_root: run: apt-get install debootstrap" >&2; exit 3; }
# Mounts are this script's own and go with it.
[ -n "${BARE_MOUNTS:-}" ] || exec env BARE_MOUNTS=1 unshare --mount --propagation private "$0" "$folder" "$suite" "$@"

# What an installed system looks into by itself. A debootstrap may be older than a suite of Ubuntu: one script does all.
case $mirror in
    *ubuntu*) components=main,universe script=/usr/share/debootstrap/scripts/gutsy ;;
    *) components=main script= ;;
esac

rm -rf "$root"
debootstrap --variant=minbase --components="$components" --include=make,ca-certificates "$suite" "$root" "$mirror" $script
mkdir "$root/src"
git -C "$checkout" archive HEAD | tar -x -C "$root/src"
mount -t proc proc "$root/proc"
for place in sys dev dev/pts dev/shm; do mount --bind "/$place" "$root/$place"; done
cp /etc/resolv.conf "$root/etc/resolv.conf"
# Networks with a certificate of their own: what this machine trusts, the root trusts.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/host.crt"

# In a minbase root Python comes with what `make` installs first.
for target in ${*:-demo test}; do
    echo "bare_root $suite: make $target of $(git -C "$checkout" rev-parse --short HEAD)"
    chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
        PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_DEFAULT_TIMEOUT=180 SSL_CERT_FILE=/etc/ssl/host.crt \
        REQUESTS_CA_BUNDLE=/etc/ssl/host.crt make -C /src "$target"
done
