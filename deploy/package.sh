#!/usr/bin/env bash
# Makes the .deb and the archive in build/package/packages/: programs that need only glibc. Sets up and builds first.
#   deploy/package.sh
set -euo pipefail
me=package
# shellcheck source=deploy/lib/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"

"$root/deploy/setup.sh" run
"$root/deploy/build.sh" package megakernel-server megakernel
cd "$root/build/package"
rm -rf packages
step "packing" cpack --config CPackConfig.cmake -B packages || die "cpack failed (log: $step_log)"
rm -rf packages/_CPack_Packages
for file in packages/*; do say "$(du -h --apparent-size "$file" | cut -f1) build/package/$file"; done
