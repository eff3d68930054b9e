#!/usr/bin/env bash
# Makes a minimal system of this machine's own distribution with debootstrap, once, and prints the path of its archive:
# what images and packages are tried on where no image registry is in reach. As root. Needs `deploy/setup.sh deploy`.
#   deploy/debian_base.sh
# Mirrors and apt's way of reaching them are taken from the machine's own configuration. Like the "slim" images of the
# registries it has no documentation, manuals and translations.
set -euo pipefail
me=base
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

[ "$(id -u)" -eq 0 ] || die "debootstrap needs root: run this with sudo"
# shellcheck source=/dev/null
codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
archive=$cache/deploy/base-$codename.tar
if [ -f "$archive" ]; then
  printf '%s\n' "$archive"
  exit 0
fi
exec 3>&1 1>&2 # everything but the path goes to standard error

# One line of sources.list for each release of the distribution: itself, its updates, its security updates.
# shellcheck disable=SC2016 # apt-get replaces those
mapfile -t sources < <(apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
  awk -v codename="$codename" '$2 ~ "^" codename { components[$1 " " $2] = components[$1 " " $2] " " $3 }
    END { for (key in components) print "deb " key components[key] }' | sort -u)
mirror=$(printf '%s\n' "${sources[@]}" | awk -v codename="$codename" '$3 == codename { print $2; exit }')
[ -n "$mirror" ] || die "apt knows no source of $codename; run apt-get update first"
include=
[[ "${sources[*]}" != *https://* ]] || include=--include=ca-certificates

mkdir -p "$cache/deploy"
work=$(mktemp -d "$cache/deploy/base.XXXXXX")
trap 'rm -rf "$work"' EXIT
step "a minimal $codename" debootstrap --variant=minbase ${include:+"$include"} "$codename" "$work/root" "$mirror" ||
  die "debootstrap failed (log: $step_log)"
printf '%s\n' "${sources[@]}" >"$work/root/etc/apt/sources.list"
apt-config dump | grep -E '^Acquire::(https?|Check|Retries)' >"$work/root/etc/apt/apt.conf.d/90machine" || true
printf 'path-exclude /usr/share/%s/*\n' doc man locale info >"$work/root/etc/dpkg/dpkg.cfg.d/slim"
rm -rf "$work"/root/usr/share/{doc,man,locale,info}/* "$work"/root/var/{cache/apt,log}/* "$work"/root/var/lib/apt/lists/*
mkdir -p "$work/root/var/cache/apt/archives/partial"
tar -C "$work/root" --numeric-owner -cf "$archive.part" .
mv "$archive.part" "$archive"
printf '%s\n' "$archive" >&3
