#!/bin/sh
# Proves the arm64 build without a board: Debian roots under qemu-user, in which the wheel is built, installed as
# docs/jetson.md says, and `doctor`, `demo` and the device tier of the tests run with it as on a board, only slower.
#
#   sudo tools/arm64.sh FOLDER [SUITE [STEP...]]
#
# SUITE: bookworm (Python 3.11, the wheel for that version) or trixie (Python 3.13, the abi3 wheel for 3.12 and later);
# both by default. STEPS: system wheel install doctor demo cpp test live, or a part of the last two such as
# test.runtimes; by default all of them in bookworm, the first five in trixie.
#
# The device tier is what a device runs: the wheel with [cpu] and the distribution's GStreamer, without torch and mujoco.
# So `test` and `live` leave out what tests/conftest.py marks `workstation` (making bundles, training, rendering scenes)
# and, in an emulator, `native` (its speed and memory); `live` has the tests marked `alone`, one folder of tests a part.
#
# What is committed is taken. A part that has passed with the same files is passed over: remove FOLDER/SUITE.PART.done to
# do it again. FOLDER/SUITE.PART.xml lists its tests. MIRROR names a mirror of Debian.
set -eu

folder=$(realpath -m "${1:?usage: tools/arm64.sh FOLDER [SUITE [STEP...]]}")
shift
suites=${1:-bookworm trixie}
[ $# -eq 0 ] || shift
steps=$*
mirror=${MIRROR:-http://deb.debian.org/debian}
checkout=$(cd "$(dirname "$0")/.." && pwd)

[ "$(id -u)" -eq 0 ] || { echo "arm64: run this as root: debootstrap and chroot need it" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "arm64: run: apt-get install debootstrap" >&2; exit 3; }
emulated=
[ "$(uname -m)" = aarch64 ] || emulated=/proc/sys/fs/binfmt_misc
[ -z "$emulated" ] || [ -e "$emulated/register" ] || mount -t binfmt_misc binfmt_misc "$emulated"
[ -z "$emulated" ] || [ -e "$emulated/qemu-aarch64" ] || update-binfmts --enable qemu-aarch64 2>/dev/null || {
    echo "arm64: arm64 programs do not run here; run: apt-get install qemu-user-static binfmt-support" >&2
    exit 3
}

# Mounts are this script's own and go with it.
[ -n "${ARM64_MOUNTS:-}" ] || exec env ARM64_MOUNTS=1 unshare --mount --propagation private "$0" "$folder" "$suites" $steps

commit=$(git -C "$checkout" rev-parse --short HEAD)
# What decides whether a part that has passed would pass again: the wheel's files, and all that tests see.
files=$(git -C "$checkout" ls-tree -r HEAD | grep -vE '	(docs/|tools/|benchmarks/results/|[^/]*\.md$)')
wheel_key=$(echo "$files" | grep -v '	tests/' | sha1sum | cut -c1-12)
test_key=$(echo "$files" | sha1sum | cut -c1-12)
mkdir -p "$folder"

# qemu shows the host's /proc/cpuinfo. ONNX Runtime reads the CPUs' features from it and ends in a segmentation fault
# where they are another architecture's, or fewer than the CPUs of /sys; this is in the main what a Cortex-A78AE, the CPU
# of Orin, says of itself.
for number in $(seq 0 $(($(getconf _NPROCESSORS_CONF) - 1))); do
    cat <<END
processor	: $number
BogoMIPS	: 62.50
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd42
CPU revision	: 1

END
done >"$folder/cpuinfo"

prepare() {
    mkdir -p "$root/src"
    [ -e "$root/.bootstrapped" ] || {
        debootstrap --arch=arm64 --variant=minbase --include=make,ca-certificates "$suite" "$root" "$mirror"
        # nobody minds a root that a power cut spoils
        echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
        touch "$root/.bootstrapped"
    }
    mount -t proc proc "$root/proc"
    [ -z "$emulated" ] || mount --bind "$folder/cpuinfo" "$root/proc/cpuinfo"
    for place in sys dev dev/pts; do mount --bind "/$place" "$root/$place"; done
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    # Networks with a certificate of their own: what this machine trusts, the root trusts.
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/host.crt"
    find "$root/src" -mindepth 1 -maxdepth 1 ! -name .venv ! -name dist ! -name build -exec rm -rf {} +
    git -C "$checkout" archive HEAD | tar -x -C "$root/src"
}

# QEMU_CPU: the nearest to Orin's that qemu has. Files are compiled to bytecode when they are first imported.
inside() {
    chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 QEMU_CPU=cortex-a76 \
        OMP_NUM_THREADS=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_DEFAULT_TIMEOUT=180 \
        DEBIAN_FRONTEND=noninteractive SSL_CERT_FILE=/etc/ssl/host.crt REQUESTS_CA_BUNDLE=/etc/ssl/host.crt \
        sh -c "cd /src && $1"
}

# What docs/jetson.md installs on a board; what builds a wheel there; what the tests draw pictures and speak RTSP with.
packages="python3-venv python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-tools
    gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-libav
    g++ python3-dev
    gstreamer1.0-plugins-ugly gir1.2-gst-rtsp-server-1.0 ffmpeg"
test_tools="pytest pytest-benchmark onnx pillow scikit-learn nltk rouge-score nanobind"

# The wheel is what is run and tested: away from the checkout, whose folder would come first on the path.
elsewhere="mkdir -p /tmp/work && cd /tmp/work"
edge=/opt/edge/bin
unfit="${emulated:+ and not native}"
pytest="PATH=$edge:\$PATH PYTHONPATH=/src/tools python -m pytest -p slow_machine -p no:cacheprovider \
    -c /src/pyproject.toml --rootdir /src -q -rfE --durations=20 --tb=short --junitxml=/src/tests.xml"

# The tests of one folder, or of the files that lie in no folder, that are marked so; a part may have none of them.
tests_of() {
    found=0 place=/src/tests/$1
    [ "$1" != top ] || place='/src/tests/test_*.py'
    rm -f "$root/src/tests.xml"
    inside "$elsewhere && { $pytest -m 'not slow and not workstation$unfit and $2' $place || [ \$? -eq 5 ]; }" || found=$?
    cp "$root/src/tests.xml" "$folder/$suite.$name.xml" && return "$found"
}

step() {
    case $1 in
        system) inside "apt-get update -qq && apt-get install -y -qq --no-install-recommends $(echo $packages)" ;;
        wheel) inside "python3 -m venv .venv && rm -rf dist && .venv/bin/pip wheel -q --no-deps -w dist . && ls dist" ;;
        install) inside "rm -rf /opt/edge && python3 -m venv --system-site-packages /opt/edge &&
            $edge/pip install -q \"\$(ls dist/*.whl)[cpu,plot]\" && $edge/pip list --local" ;;
        doctor) inside "$elsewhere && $edge/edge-sdk doctor" ;;
        demo) inside "$elsewhere && $edge/edge-sdk demo" ;;
        cpp) inside ".venv/bin/pip install -q cmake ninja && make cpp" ;;
        tools) inside "$edge/pip install -q $test_tools && $edge/pip list --local" ;;
        test.*) tests_of "${1#test.}" "not alone" ;;
        live.*) tests_of "${1#live.}" "alone" ;;
        *) echo "arm64: unknown step $1; known: system wheel install doctor demo cpp test live" >&2; exit 2 ;;
    esac
}

# The parts of a step, in their order.
parts() {
    case $1 in
        test | live)
            echo tools
            folders=$(git -C "$checkout" ls-tree -r --name-only HEAD tests | sed -n 's,^tests/\([^/]*\)/.*test_[^/]*\.py$,\1,p')
            for each in top $(echo "$folders" | sort -u); do echo "$1.$each"; done
            ;;
        *) echo "$1" ;;
    esac
}

failed=
for suite in $suites; do
    root=$folder/$suite
    prepare
    usual="system wheel install doctor demo"
    [ "$suite" != bookworm ] || usual="$usual cpp test live"
    for name in $(for each in ${steps:-$usual}; do parts "$each"; done); do
        log=$folder/$suite.$name.log done=$folder/$suite.$name.done
        case $name in
            system) key=$(echo "$packages" | sha1sum | cut -c1-12) ;;
            test.* | live.*) key=$test_key ;;
            *) key=$wheel_key ;;
        esac
        if [ "$(cat "$done" 2>/dev/null)" = "$key" ]; then
            echo "arm64 $suite $name: passed before with these files"
            continue
        fi
        began=$(date +%s)
        echo "arm64 $suite $name: $commit, log in $log"
        if step "$name" >"$log" 2>&1; then
            tail -n 3 "$log"
            echo "$key" >"$done"
            echo "arm64 $suite $name: passed in $(($(date +%s) - began)) s"
        else
            tail -n 40 "$log"
            echo "arm64 $suite $name: failed after $(($(date +%s) - began)) s" >&2
            failed="$failed $suite.$name"
            # Tests of one folder need nothing of another's; every other step needs those before it.
            case $name in test.* | live.*) ;; *) exit 1 ;; esac
        fi
    done
done
[ -z "$failed" ] || { echo "arm64: failed:$failed" >&2; exit 1; }
