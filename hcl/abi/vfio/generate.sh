#!/bin/sh
# Writes zz_generated_amd64.go from defs.go and <linux/vfio.h>. What defs.go asks
# for is the same in the headers of Debian 12 (6.1) and 13 (6.12).
set -eu

echo '#include <linux/vfio.h>' | gcc -E -o /dev/null - || {
	echo "keel: <linux/vfio.h> cannot be read: apt-get install gcc linux-libc-dev" >&2
	exit 1
}
out=../../../build/godefs-vfio
mkdir -p "$out"
# No pipe: it would hide that cgo failed.
go tool cgo -objdir "$out" -godefs defs.go >"$out/cgo"
sed 2d "$out/cgo" >"$out/unformatted" # line 2 names the command's arguments
gofmt "$out/unformatted" >"$out/formatted"
mv "$out/formatted" zz_generated_amd64.go
