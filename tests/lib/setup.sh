# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# What tests/check and tests/demo have in common. To be sourced; sets root.

# The distribution's programs, whatever the caller's PATH puts first.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
unset PYTHONPATH PYTHONHOME MAKEFLAGS CFLAGS LDFLAGS
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
exec </dev/null

say() {
        printf '\n== %s\n' "$*"
}

need_root() {
        [ "$(id -u)" = 0 ] && return
        echo "${0##*/}: mounts file systems, so it has to run as root: sudo $0" >&2
        exit 1
}

# install_missing PURPOSE...: installs the packages of tests/dependencies for these purposes that are not there yet.
install_missing() {
        local purpose package missing=()
        while read -r purpose package; do
                [[ " $* " == *" $purpose "* ]] || continue
                command -v "$package" >/dev/null && continue # a program of that name is there
                [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
        done <"$root/tests/dependencies"
        [ ${#missing[@]} = 0 ] && return
        echo "installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get -q update && apt-get -qy install --no-install-recommends "${missing[@]}"
}
