# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What all build scripts share: where things are, how to say what goes on, how to become root, where the package
# mirror is. Sourced, never run.

set -euo pipefail

# The clone, and the cache outside of it. Both may be on paths with odd characters.
MSM_RS_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
MSM_RS_CACHE=${MSM_RS_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set: set MSM_RS_CACHE}/.cache}/msm_rs}
export MSM_RS_TOP MSM_RS_CACHE

# The kernels that are supported, by line and by Debian's name for their flavour; and which of them is the stock kernel, on which everything
# is tested.
# shellcheck disable=SC2034 # for the stages
LINUX_LINES=(7.3 7.2) LINUX_FLAVOURS=(arm64 rt-arm64 arm64-16k)
# shellcheck disable=SC2034
LINUX_LINE=7.3
# shellcheck disable=SC2034
LINUX_FLAVOUR=arm64

# What every kernel build is called with; the compiler is the one that Debian builds its kernels with.
# shellcheck disable=SC2034 # used by those who source this
KMAKE=(make ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- CC=aarch64-linux-gnu-gcc-14)
# The debug kernel's and its modules': KASAN and Rust together need clang.
# shellcheck disable=SC2034
KMAKE_DEBUG=(make ARCH=arm64 LLVM=1)

# say WORDS: one line on what is being done.
say() {
	[ ! -t 2 ] || printf '\r\033[K' >&2 # what `step` shows there
	printf '%s\n' "msm_rs: $*" >&2
}

# die WORDS: what went wrong, and in the next lines what to do.
die() {
	{ set +x; } 2>/dev/null # a stage's trace
	say "error: $1"
	shift
	[ $# = 0 ] || printf '        %s\n' "$@" >&2
	exit 1
}

# step LOG TITLE CMD…: runs CMD, whose lines go to the file LOG. Said are TITLE and how long it has taken; on a terminal its last line, as it
# comes; when it fails, the end of LOG. With MSM_RS_VERBOSE (make's V=1) all lines are shown.
step() {
	local log=$1 title=$2 start=$SECONDS status=0 ticker=''
	shift 2
	say "$title …"
	mkdir -p "$(dirname "$log")"
	if [ -n "${MSM_RS_VERBOSE:-}" ]; then
		"$@" </dev/null 2>&1 | tee "$log" >&2 || status=$?
	else
		: >"$log"
		if [ -t 2 ]; then
			watch_log "$log" "$start" &
			ticker=$!
		fi
		"$@" </dev/null >"$log" 2>&1 || status=$?
		if [ -n "$ticker" ]; then
			kill "$ticker" 2>/dev/null || :
			wait "$ticker" 2>/dev/null || :
			printf '\r\033[K' >&2
		fi
		# what CMD itself has explained is the last thing to be seen
		[ "$status" = 0 ] || tail -n 30 "$log" | sed 's/^/    /' >&2
	fi
	[ "$status" = 0 ] || die "this has failed: $title" "The whole log is $log." "Correct the cause and run the same command again."
	say "    done in $((SECONDS - start)) s"
}

# watch_log LOG START: shows how long it has taken since START, and the log's last line, until it is killed or this script ends.
watch_log() {
	local columns
	columns=$(stty size <&2 2>/dev/null | cut -d' ' -f2) || :
	[ "${columns:-0}" -ge 40 ] || columns=80 # not known everywhere
	while sleep 1 && kill -0 $$ 2>/dev/null; do
		printf '\r\033[K%6d s  %s' $((SECONDS - $2)) "$(tail -n 1 "$1" | tr -s '[:space:]' ' ' | cut -c "-$((columns - 12))")" >&2
	done
}

# as_root CMD…: run CMD with root's rights. Prints what to do when there is no way to get them.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo -- "$@"
	else
		die "'$1' needs root's rights, and there is no sudo" "Run this as root, or install sudo."
	fi
}

# in_root CMD…: run CMD in the toolchain root.
in_root() { "$MSM_RS_TOP/scripts/in-root" -- "$@"; }

# kernel_line SOURCE: the line of a kernel's source, as in 7.3.
kernel_line() { awk '/^VERSION =/ { v = $3 } /^PATCHLEVEL =/ { print v "." $3; exit }' "$1/Makefile"; }

# kernel_home KERNEL: the directory in the cache of the kernel `stock`, `debug` or of that release, see scripts/kernel.sh.
kernel_home() {
	case $1 in
	stock | debug) echo "$MSM_RS_CACHE/$1" ;;
	*) echo "$MSM_RS_CACHE/kernels/$1" ;;
	esac
}

# kernel_name NAME: what the scripts call that kernel: the stock one's release is `stock` as well.
kernel_name() {
	if [ "$1" = "$(cat "$MSM_RS_CACHE/stock/kver" 2>/dev/null)" ]; then echo stock; else echo "$1"; fi
}

# kernels_of ARGS…: which kernels a script of tests with these arguments runs on: what the last --kernel says, or both.
kernels_of() {
	local rest=" $* "
	case $rest in
	*" --kernel "*)
		rest=${rest##* --kernel }
		echo "${rest%% *}"
		;;
	*) echo stock debug ;;
	esac
}

# jobs: how many jobs to run at once, one for each processor unless MSM_RS_JOBS says otherwise.
jobs_wanted() { echo "${MSM_RS_JOBS:-$(nproc)}"; }

# mirror: the Debian mirror that this machine's apt uses, or MSM_RS_MIRROR. Empty when it has none (Ubuntu).
mirror() {
	local uri
	if [ -n "${MSM_RS_MIRROR:-}" ]; then
		echo "$MSM_RS_MIRROR"
		return
	fi
	# shellcheck disable=SC2016 # for apt to expand
	uri=$(apt-get indextargets --format '$(ORIGIN)|$(RELEASE)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		awk -F'|' '$1 == "Debian" && $2 !~ /-security/ { print $3; exit }') || true
	case $uri in
	mirror+file:*) sed -n '/^[a-z]/{s/[[:space:]].*//;p;q}' "${uri#mirror+file:}" ;;
	*) echo "$uri" ;;
	esac
}
