#!/bin/sh
# Installs the Debian/Ubuntu packages that the demo and the tests need and that are not there yet.
# PyPI has neither GStreamer nor PyGObject as wheels for Linux: the one comes from the distribution, the other is
# built against it. Other distributions: install the like of these by hand; the script then does nothing.
set -eu

wanted="build-essential pkg-config python3-dev python3-venv libcairo2-dev libgirepository1.0-dev
        gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gstreamer1.0-tools gstreamer1.0-plugins-base
        gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
        gir1.2-gst-rtsp-server-1.0 ffmpeg openssl libegl1 libgl1-mesa-dri"

command -v apt-get >/dev/null 2>&1 || { echo "install_system: no apt-get; please install: $wanted" >&2; exit 0; }

missing=
for package in $wanted; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

run=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || { echo "install_system: as root, run: apt-get install$missing" >&2; exit 3; }
    run=sudo
fi
echo "install_system: installing$missing"
$run apt-get update -qq
$run env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
