# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Kernels that Debian ships: which there are, and what the stages `stock`, `linux` and `kernel` fetch and prepare of them. Sourced by those, after
# lib.sh.
#
# A kernel's directory has
#   kver            its release name
#   version         its package's version
#   Image           the kernel, as QEMU boots it
#   config          what it was configured with
#   Module.symvers  what it exports
#   usr/lib/modules/KVER/

# archive_releases: the releases of the supported lines and flavours that the archive has, of each line and flavour the newest, those
# of the first line first.
archive_releases() {
	local line flavour
	for line in "${LINUX_LINES[@]}"; do
		for flavour in "${LINUX_FLAVOURS[@]}"; do
			in_root apt-cache pkgnames "linux-headers-$line." |
				sed -n "s/^linux-headers-\([0-9.]*+[a-z0-9]*-$flavour\)\$/\1/p" | sort -V | tail -n 1
		done
	done
}

# archive_version KVER: of its package, nothing if the archive hasn't that release.
archive_version() { { in_root apt-cache show "linux-headers-$1:arm64" 2>/dev/null || :; } | sed -n 's/^Version: //p' | sort -V | tail -n 1; }

update_archive() {
	"$MSM_RS_TOP/scripts/in-root" --as-root -- apt-get update ||
		die "the package lists can't be fetched" "Is this machine on line? MSM_RS_MIRROR=URL chooses another mirror."
}

# fetch_binaries KVER VERSION DIR: a kernel's directory, see above.
fetch_binaries() {
	local kver=$1 version=$2 dir=$3
	rm -rf --one-file-system "$dir"
	mkdir -p "$dir"
	# shellcheck disable=SC2016
	in_root sh -ec '
		kver=$1 version=$2 dir=$3
		cd /tmp
		apt-get download "linux-binary-unsigned-$kver:arm64=$version" "linux-modules-$kver:arm64=$version" \
			"linux-base-$kver:arm64=$version"
		for deb in *.deb; do dpkg-deb -x "$deb" "$dir"; done
		apt-get download "linux-headers-$kver:arm64=$version"
		dpkg-deb --fsys-tarfile linux-headers-*.deb |
			tar -xO "./usr/src/linux-headers-$kver/Module.symvers" >"$dir/Module.symvers"
		' sh "$kver" "$version" "$dir" || die "the packages of Linux $kver can't be fetched"
	ln -s "usr/lib/modules/$kver/config" "$dir/"
	ln -s "usr/lib/modules/$kver/vmlinuz.unsigned" "$dir/Image"
	echo "$version" >"$dir/version"
	echo "$kver" >"$dir/kver"
}

# fetch_source LINE VERSION DIR: the source of that package's version.
fetch_source() {
	# shellcheck disable=SC2016
	in_root sh -ec '
		cd /tmp
		apt-get download "linux-source-$1=$2"
		dpkg-deb --fsys-tarfile linux-source-*.deb |
			tar -xO --wildcards "./usr/src/linux-source-*.tar.xz" | xz -dc -T0 |
			tar -x --strip-components=1 --one-top-level="$3"
		' sh "$@" ||
		die "the source of Linux $2 can't be fetched" "Run 'rm -r $MSM_RS_CACHE/stock' to start from what the archive has now."
}

# prepare_tree KERNEL SOURCE TREE: an object tree against which modules for that kernel, whose directory KERNEL is, can be built.
prepare_tree() {
	local kernel=$1 source=$2 tree=$3 kver rustc
	kver=$(cat "$kernel/kver")
	say "    preparing for $kver …" 2>&3
	mkdir "$tree"
	cp "$kernel/config" "$tree/.config"
	rustc=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="rustc \([0-9.]*\).*/\1/p' "$tree/.config")
	[ -n "$rustc" ] || die "Linux $kver was configured without Rust, and msm_rs needs it"
	in_root rustc --version | grep -qF "rustc $rustc " ||
		die "Linux $kver was built with rustc $rustc, and the toolchain root has $(in_root rustc --version)" \
			"A module's Rust has to be compiled as the kernel's was. Debian 13's own kernels and its backports' are."
	# The release name must be the kernel's, as module loading compares it. The keys that sign Debian's modules
	# aren't public. All else stays: even the options for BPF change the layout of structures.
	in_root "$source/scripts/config" --file "$tree/.config" \
		--set-str LOCALVERSION "${kver#"$(in_root make -s -C "$source" kernelversion)"}" \
		--disable LOCALVERSION_AUTO \
		--set-str SYSTEM_TRUSTED_KEYS "" --set-str MODULE_SIG_KEY ""
	in_root "${KMAKE[@]}" -C "$source" O="$tree" olddefconfig
	grep -q '^CONFIG_RUST=y' "$tree/.config" || die "the kernel's configuration has lost CONFIG_RUST"
	diff "$kernel/config" "$tree/.config" || true # for the log
	in_root nice "${KMAKE[@]}" -C "$source" O="$tree" -j"$(jobs_wanted)" prepare modules_prepare
	[ "$(cat "$tree/include/config/kernel.release")" = "$kver" ] ||
		die "the prepared tree calls itself $(cat "$tree/include/config/kernel.release") instead of $kver"
	cp "$kernel/Module.symvers" "$tree/"
}
