# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# How tests/kernels makes its guests: for a release of Debian a tree that is booted, a tree that packages are built in, and
# an image of the former. All of it is kept below $cache and made anew when what it was made from has changed. To be
# sourced after setup.sh. Nothing that is mounted here is seen outside of the one command.

cache=${OVLFIND_CACHE:-/var/cache/ovlfind-kernels}

# The mirror this machine gets Debian from.
own_mirror() {
        # shellcheck disable=SC2016
        apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | head -1
}

# apart COMMAND...: runs it so that what it mounts and leaves running goes with it, also when it is killed.
apart() {
        unshare -m -p -f --kill-child --propagation private "$@"
}

# in_tree TREE COMMAND...: runs it with TREE as its root.
in_tree() {
        local tree=$1
        shift
        # shellcheck disable=SC2016
        apart bash -c '
                tree=$1
                shift
                mount -t proc proc "$tree/proc" && mount -t sysfs -o ro sysfs "$tree/sys" && mount --bind /dev "$tree/dev" || exit
                exec env -i PATH="$PATH" HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
                        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
                        DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS:-}" chroot "$tree" "$@"' in_tree "$tree" "$@"
}

apt_in() {
        local tree=$1
        shift
        in_tree "$tree" apt-get -qy --no-install-recommends -o Dpkg::Use-Pty=0 "$@"
}

hash_of() {
        sha256sum | cut -d' ' -f1
}

# made THING STAMP COMMAND...: has COMMAND make $cache/THING.new unless $cache/THING was made for the same STAMP.
made() {
        local thing=$cache/$1 stamp=$2
        shift 2
        [ "$(cat "$thing.stamp" 2>/dev/null)" = "$stamp" ] && [ -e "$thing" ] && return
        echo "making $thing"
        mkdir -p "${thing%/*}"
        rm -rf "$thing" "$thing.new" "$thing.stamp"
        "$@" "$thing.new" >"$thing.log" 2>&1 || { tail -20 "$thing.log"; return 1; }
        mv "$thing.new" "$thing" && echo "$stamp" >"$thing.stamp"
}

guest_packages() {
        local release=$1 source=$2
        awk -v release="$release" '!/^#/ && NF == 1 { print $1 } $1 == release { print $2 }' "$source/tests/kernel/packages"
}

minimal_tree() {
        local release=$1 mirror=$2 tree=$3
        apart debootstrap --variant=minbase "$release" "$tree" ${mirror:+"$mirror"} || return
        printf '#!/bin/sh\nexit 101\n' >"$tree/usr/sbin/policy-rc.d" # nothing is started while packages are installed
        chmod 755 "$tree/usr/sbin/policy-rc.d"
        cp /etc/resolv.conf "$tree/etc/resolv.conf"
}

guest_tree() {
        local release=$1 source=$2 tree=$3
        cp -a --reflink=auto "$cache/$release/minimal" "$tree" || return
        # shellcheck disable=SC2046
        apt_in "$tree" install $(guest_packages "$release" "$source") && apt_in "$tree" clean
}

# Has what debian/control wants for a build; $source is a copy of the sources.
build_tree() {
        local release=$1 source=$2 tree=$3
        cp -a --reflink=auto "$cache/$release/minimal" "$tree" || return
        mkdir -p "$tree/source/debian"
        cp "$source/debian/control" "$tree/source/debian/"
        printf 'ovlfind (0) unstable; urgency=low\n' >"$tree/source/debian/changelog"
        apt_in "$tree" install build-essential fakeroot && apt_in "$tree" build-dep /source && apt_in "$tree" clean
        local status=$?
        rm -rf "$tree/source"
        return $status
}

# What makes a system of packages one that runs tests and nothing else.
set_up_guest() {
        local source=$1 tree=$2 units=$2/etc/systemd/system unit
        install -m 755 "$source/tests/kernel/guest/ovlfind-tests" "$tree/usr/local/sbin/" || return
        mkdir -p "$units/multi-user.target.wants"
        for unit in ovlfind-tests ovlfind-journal; do
                install -m 644 "$source/tests/kernel/guest/$unit.service" "$units/" || return
                ln -sf "../$unit.service" "$units/multi-user.target.wants/"
        done
        for unit in serial-getty@ttyS0.service serial-getty@hvc0.service getty@tty1.service nfs-server.service nfs-blkmap.service \
                systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
                e2scrub_reap.service fstrim.timer xfs_scrub_all.timer; do
                rm -f "$units"/*.wants/"$unit"
                [ "$unit" = nfs-server.service ] || ln -sf /dev/null "$units/$unit"
        done
        echo 'LABEL=ovlfind / ext4 defaults,noatime 0 0' >"$tree/etc/fstab"
        echo guest >"$tree/etc/hostname"
        echo '127.0.0.1 localhost guest' >"$tree/etc/hosts"
        mkdir -p "$tree/etc/systemd/journald.conf.d"
        printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\n' >"$tree/etc/systemd/journald.conf.d/guest.conf"
        mkdir -p "$tree/etc/systemd/system.conf.d"
        # A guest that is emulated on a busy machine may take minutes until all devices are there.
        printf '[Manager]\nDefaultDeviceTimeoutSec=15min\nDefaultTimeoutStartSec=15min\n' >"$tree/etc/systemd/system.conf.d/guest.conf"
        rm -f "$tree/usr/sbin/policy-rc.d"
}

guest_image() {
        local source=$1 tree=$2 image=$3
        set_up_guest "$source" "$tree" || return
        truncate -s $(($(du -sm "$tree" | cut -f1) + 4096))M "$image"
        mke2fs -q -F -t ext4 -L ovlfind -O ^has_journal -d "$tree" "$image"
}

# The package, and what the tests need of its build.
package() {
        local release=$1 source=$2 directory=$3 tree status
        rm -rf "$cache/$release/build/srv"/build.*
        tree=$(mktemp -d "$cache/$release/build/srv/build.XXXXXX") || return
        cp -a "$source" "$tree/source"
        DEB_BUILD_OPTIONS=parallel=$(nproc) in_tree "$cache/$release/build" sh -c "cd '/srv/${tree##*/}/source' && dpkg-buildpackage -us -uc -b"
        status=$?
        if [ $status = 0 ]; then
                mkdir "$directory" && mv "$tree"/ovlfind_*.deb "$tree"/source/obj-* "$directory/" && find "$directory" -name '*.o' -delete
                status=$?
        fi
        rm -rf "$tree"
        return $status
}

# What neither the package nor its build depends on may change without another build.
sources_of_package() {
        cd "$1" && find . -type f -not -path './tests/kernel*' -not -path './tests/lib/*' -not -path './tests/system/*' -print0 |
                sort -z | xargs -0 sha256sum
}

# make_guest RELEASE MIRROR SOURCE: all of the above; afterwards there are $cache/RELEASE/image, a kernel in guest/boot, and
# the package.
make_guest() {
        local release=$1 mirror=$2 source=$3 recipe guest build
        recipe=$({ echo "$release $mirror"; declare -f minimal_tree guest_tree build_tree; } | hash_of)
        guest=$({ echo "$recipe"; guest_packages "$release" "$source"; } | hash_of)
        build=$({ echo "$recipe"; sed '/^Package:/Q' "$source/debian/control"; } | hash_of)
        made "$release/minimal" "$recipe" minimal_tree "$release" "$mirror" &&
                made "$release/guest" "$guest" guest_tree "$release" "$source" &&
                made "$release/build" "$build" build_tree "$release" "$source" &&
                made "$release/image" "$({ echo "$guest"; declare -f set_up_guest guest_image; cat "$source"/tests/kernel/guest/*; } | hash_of)" \
                        guest_image "$source" "$cache/$release/guest" &&
                made "$release/package" "$({ echo "$build"; declare -f package; sources_of_package "$source"; } | hash_of)" \
                        package "$release" "$source"
}
