#!/bin/sh
# Proves the arm64 build without a board: a Debian arm64 root under qemu-user, in which the wheel is built, and
# `doctor`, `demo` and the device tier of the tests run as a Jetson's Linux would run them, only slower.
#
#   sudo tools/arm64.sh FOLDER [SUITE] [STEP...]
#
# SUITE: bookworm (Python 3.11) or trixie (3.13, which builds the abi3 wheel for 3.12 and later).
# STEPS: wheel doctor demo test; all by default. FOLDER is kept, so that a second run goes on where the first one was.
set -eu

folder=${1:?usage: tools/arm64.sh FOLDER [SUITE] [STEP...]}
suite=${2:-bookworm}
[ $# -gt 2 ] && shift 2 || set -- wheel doctor demo test
mirror=${MIRROR:-http://deb.debian.org/debian}
checkout=$(cd "$(dirname "$0")/.." && pwd)
root=$folder/$suite

[ "$(id -u)" -eq 0 ] || { echo "arm64: run this as root: debootstrap and chroot need it" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "arm64: run: apt-get install debootstrap" >&2; exit 3; }
[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || {
    echo "arm64: arm64 programs do not run here; run: apt-get install qemu-user-static binfmt-support" >&2
    exit 3
}

mkdir -p "$root"
[ -e "$root/.bootstrapped" ] || {
    debootstrap --arch=arm64 --variant=minbase --include=make,ca-certificates,git "$suite" "$root" "$mirror"
    touch "$root/.bootstrapped"
}

unmount() {
    for place in dev/pts dev sys proc; do
        ! mountpoint -q "$root/$place" || umount -l "$root/$place"
    done
}
trap unmount EXIT
for place in proc sys dev dev/pts; do
    mountpoint -q "$root/$place" || mount --bind "/$place" "$root/$place"
done
cp /etc/resolv.conf "$root/etc/resolv.conf"
# Networks with a certificate of their own: what this machine trusts, the root trusts.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/host.crt"

# Newer arm64 wheels of ONNX Runtime (1.32 was tried) end in a segmentation fault when qemu 7.2 imports them.
echo "onnxruntime==1.23.2" >"$root/etc/pip-constraints.txt"

mkdir -p "$root/src"
git -C "$checkout" archive HEAD | tar -x -C "$root/src"

inside() {
    echo "arm64 $suite: $*"
    began=$(date +%s)
    chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
        SSL_CERT_FILE=/etc/ssl/host.crt REQUESTS_CA_BUNDLE=/etc/ssl/host.crt PIP_DEFAULT_TIMEOUT=180 PIP_CONSTRAINT=/etc/pip-constraints.txt \
        sh -c "cd /src && $*"
    echo "arm64 $suite: $* took $(($(date +%s) - began)) s"
}

for step in "$@"; do
    case $step in
        wheel) inside "make .venv/.system && .venv/bin/pip wheel -q --no-deps -w dist . && ls dist" ;;
        doctor) inside "make .venv/.demo && .venv/bin/edge-sdk doctor" ;;
        demo) inside "make demo" ;;
        test) inside "make test" ;;
        *) echo "arm64: unknown step $step; known: wheel doctor demo test" >&2; exit 2 ;;
    esac
done
